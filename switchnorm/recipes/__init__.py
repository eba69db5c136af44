"""The recipes that the package ships, by name; needs no torch, so that `--help` can list them at once."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from switchnorm.errors import InputError

_FOLDER = Path(__file__).parent
#: How an error names all of them, which are too many for a line.
_LIST = "`switchnorm train --help` lists them"


def recipes() -> list[str]:
    """Their names, such as "cifar10/resnet20"."""
    return [name for name in bases() if not name.rpartition("/")[2].startswith("_")]


def bases() -> list[str]:
    """What a recipe may name as its base: every recipe, and what recipes share, such as "cifar10/_bearpaw"."""
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.yaml"))


def shipped_file(name: str) -> Path:
    """The file of one of `bases()`."""
    return _FOLDER / f"{name}.yaml"


def title(path: Path) -> str:
    """What messages call a file: its path among the shipped recipes, or the path as it was given."""
    return path.relative_to(_FOLDER).as_posix() if path.is_relative_to(_FOLDER) else str(path)


def is_file_name(name: str) -> bool:
    """Whether this is a path to a YAML file rather than the name of a shipped one."""
    return Path(name).suffix in (".yaml", ".yml")


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path to a YAML file, or the name of a shipped one.

    Raises:
        InputError: neither, with the nearest name.
    """
    if is_file_name(name):
        if not Path(name).is_file():
            raise InputError(f"recipe {name!r} does not exist; expected a YAML file, or the name of a recipe; {_LIST}")
        return Path(name)
    if name not in recipes():
        raise InputError(f"recipe {name!r} is unknown; {_nearest(name)} ({_LIST})")
    return shipped_file(name)


def _nearest(name: str) -> str:
    """The recipes whose names, or whose last parts, are like one that is unknown."""
    known = {recipe.lower(): recipe for recipe in recipes()}
    wanted = name.lower()
    close = [known[each] for each in difflib.get_close_matches(wanted, known, n=3, cutoff=0.6)]
    if close:
        return f"did you mean {close[0]!r}?" + (f" Near too: {', '.join(map(repr, close[1:]))}" if close[1:] else "")
    parts = [part for part in re.split(r"[/_\s-]+", wanted) if len(part) > 2]
    inside = [recipe for lower, recipe in known.items() if any(part in lower for part in parts)]
    if inside:
        return f"like it are {', '.join(map(repr, inside[:3]))}"
    return f"there are {', '.join(sorted({recipe.partition('/')[0] + '/...' for recipe in known.values()}))}"
