"""Files that an option names."""

from __future__ import annotations

from pathlib import Path

from switchnorm.errors import InputError


def find_named(option: str, name: str, root: Path) -> Path:
    """The file of that name: absolute, from the folder one stands in, or from the dataset's.

    Args:
        option: what names it, for the error.
        name: as the option has it.
        root: the dataset's folder.

    Raises:
        InputError: there is none.
    """
    named = Path(name).expanduser()
    places = [named] if named.is_absolute() else [named, root / named]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"{option} {name!r} is not a file, neither here nor in {root}")
    return found
