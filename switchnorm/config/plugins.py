"""Modules of the user's own that register normalizers, datasets, networks or tasks.

A plugin is code, so who names it matters: `--plugins my_norms` on the command line imports it. A file that names one, a
recipe or a run's config.yaml, is believed only where the user has named the same module before, from the same place: a
run folder or a recipe from somebody else starts no code.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from switchnorm.errors import InputError

_FLAG = "--plugins"
_WHERE = "it has to lie in this folder, as my_norms.py does for my_norms, or in PYTHONPATH"


def split(flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """The modules that flags name, "--plugins NAME" or "--plugins=NAME", each once, and the other flags."""
    names: list[str] = []
    others: list[str] = []
    remaining = iter(flags)
    for flag in remaining:
        if flag.partition("=")[0] != _FLAG:
            others.append(flag)
            continue
        name = flag.partition("=")[2] or next(remaining, "")
        if not name or name.startswith("-"):
            raise InputError(f"{_FLAG} needs the name of a module, such as {_FLAG} my_norms")
        names.append(name)
    return list(dict.fromkeys(names)), others


def load(names: Iterable[str]) -> None:
    """Import modules that the user named, from the working directory too, and remember that they did.

    Raises:
        InputError: a module that is not there, or that fails.
    """
    for name in names:
        place = _place(name)
        if name.endswith(".py"):
            raise InputError(f"plugin {name!r} is a file; name the module in it, {_FLAG} {Path(name).stem}")
        if place is None:
            raise InputError(f"plugin {name!r} is no module that Python finds; {_WHERE}")
        _import(name)
        _remember(name, place)


def load_known(names: Iterable[str], file: str) -> None:
    """Import modules that a file names, if the user has named them before.

    Args:
        names: of the modules.
        file: that names them, for the error.

    Raises:
        InputError: a module that the user never named, or that now lies elsewhere; nothing was imported.
    """
    for name in names:
        if name in sys.modules:
            continue
        place = _place(name)
        if place is None:
            raise InputError(f"{file} wants the plugin {name!r}, which is no module that Python finds; {_WHERE}")
        if (name, place) not in _remembered():
            raise InputError(
                f"{file} wants the plugin {name!r}, which is code that you have not named yourself; "
                f"if you trust it, add {_FLAG} {name}"
            )
        _import(name)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except InputError as error:
        raise InputError(f"plugin {name!r}: {error}") from error
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        said = str(error).strip().partition("\n")[0]
        raise InputError(f"plugin {name!r} cannot be imported: {type(error).__name__}: {said}") from error


def _place(name: str) -> str | None:
    """Where a module's outermost package lies, which is found without running any of it; None where it is nowhere."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that no file here shadows a library
    try:
        found = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    return found.origin or next(iter(found.submodule_search_locations or ()), None)


def _record() -> Path:
    """The file of what the user has named: a module and its place in each line."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "switchnorm" / "plugins.txt"


def _remembered() -> set[tuple[str, str]]:
    try:
        lines = _record().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return {(name, place) for name, _, place in (line.partition("\t") for line in lines)}


def _remember(name: str, place: str) -> None:
    if (name, place) in _remembered():
        return
    with contextlib.suppress(OSError):  # a home that cannot be written to: the user will be asked again
        _record().parent.mkdir(parents=True, exist_ok=True)
        with _record().open("a", encoding="utf-8") as file:
            file.write(f"{name}\t{place}\n")
