"""Completion in a shell, by argcomplete: `eval "$(register-python-argcomplete switchnorm)"`.

The shell runs `switchnorm` at each tab with what has been typed (`COMP_LINE`). Keys of the configuration are no
arguments of the parser, which takes any flag; here they become some: those of the recipe or dataset in the line.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
from collections.abc import Sequence

from switchnorm.config.keys import SHORT
from switchnorm.config.norms import BUILT_IN
from switchnorm.config.recipe import values_of
from switchnorm.data import dataset_classes
from switchnorm.deploy.formats import FORMATS
from switchnorm.errors import InputError
from switchnorm.recipes import recipes
from switchnorm.studies import STUDIES

#: What commands take in front of their flags, where it is not a file: names to choose from.
_NAMES = {"train": recipes, "check": recipes, "study": lambda: [*STUDIES]}
#: Commands of which keys of the configuration are flags.
_CONFIGURED = ("train", "check", "eval", "predict", "study")
#: Values of flags whose type does not list them.
_VALUES = {
    "norm": lambda: [*BUILT_IN, *(f"{name}+ws" for name in BUILT_IN)],
    "data": lambda: [*dataset_classes()],
    "format": lambda: [*FORMATS],
    "recipe": recipes,
}


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, and end the process."""
    import argcomplete

    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))]
    commands = next(action.choices for action in parser._actions if action.dest == "command")
    assert isinstance(commands, dict)
    words = _words(line)
    name = next((word for word in words[1:] if word in commands), None)
    if name is not None:
        _add(commands[name], name, words)
    # A tab after a space tells of names, and after a dash of flags, which are hundreds.
    argcomplete.autocomplete(parser, always_complete_options=False)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quotation that is still open
        return line.split()


def _add(command: argparse.ArgumentParser, name: str, words: Sequence[str]) -> None:
    """Make arguments of what the command takes beyond its own."""
    from argcomplete.completers import ChoicesCompleter, FilesCompleter

    def values(action: argparse.Action, choices: Sequence[str]) -> None:
        action.completer = ChoicesCompleter(choices)  # type: ignore[attr-defined, arg-type]

    known = {flag for action in command._actions for flag in action.option_strings}
    for action in command._actions:
        if action.dest in _VALUES and action.choices is None:
            values(action, _VALUES[action.dest]())
    if not any(not action.option_strings for action in command._actions):
        if name in _NAMES:
            values(command.add_argument("what", nargs="?"), _NAMES[name]())
        else:
            command.add_argument("what", nargs="*").completer = FilesCompleter()  # type: ignore[attr-defined]
    if name in _CONFIGURED:
        listed = _listed(words)
        keys = {short.replace("_", "-"): key for short, key in SHORT.items()} | {key: key for key in listed}
        for flag, key in keys.items():
            if f"--{flag}" not in known:
                action = command.add_argument(f"--{flag}", dest=flag)
                if choices := _VALUES[flag]() if flag in _VALUES else listed.get(key):
                    values(action, choices)


def _listed(words: Sequence[str]) -> dict[str, list[str]]:
    """The keys of the configuration, with those of the data that the line names; digits' without: their values."""
    recipe = next((word for word in words if word in recipes()), None)
    data = next((after for before, after in itertools.pairwise(words) if before in ("--data", "--data.name")), None)
    try:
        return values_of(recipe, data)
    except InputError:
        return values_of()
