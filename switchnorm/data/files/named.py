"""Files that an option names."""

from __future__ import annotations

import difflib
from pathlib import Path

from switchnorm.errors import AbsentError, InputError
from switchnorm.text import expanded


def find_root(name: str) -> Path:
    """The folder that the option `root` names.

    Raises:
        InputError: it is none; an `AbsentError` where nothing is there.
    """
    root = expanded("root", name)
    if root.is_dir():
        return root
    if root.exists():
        raise InputError(f"root {name!r} is not a folder; expected the folder of a dataset")
    siblings = [each.name for each in root.parent.iterdir() if each.is_dir()] if root.parent.is_dir() else []
    close = difflib.get_close_matches(root.name, siblings, n=1)
    raise AbsentError(f"root {name!r} is not a folder" + (f"; did you mean {close[0]!r} beside it?" if close else ""))


def lacks(root: str, said: str) -> InputError:
    """The error for a dataset's folder without what was looked for there; an `AbsentError` where it is empty."""
    return InputError(said) if any(find_root(root).iterdir()) else AbsentError(said)


def find_named(option: str, name: str, root: Path) -> Path:
    """The file of that name: absolute, from the folder one stands in, or from the dataset's.

    Args:
        option: what names it, for the error.
        name: as the option has it.
        root: the dataset's folder.

    Raises:
        InputError: there is none.
    """
    named = expanded(option, name)
    places = [named] if named.is_absolute() else [named, root / named]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"{option} {name!r} is not a file, neither here nor in {root}")
    return found
