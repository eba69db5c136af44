"""What data.yaml says of a YOLO dataset: the names of its classes, and where its splits are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switchnorm.classes import names_in
from switchnorm.errors import InputError
from switchnorm.recipes.located import Located, read_located
from switchnorm.text import canonical

_EXPECTED = "description of a YOLO dataset; expected keys such as 'names', 'train' and 'val'"
#: Files that name a class in each line, in the order of the numbers.
_LISTS = ("classes.txt", "labels/classes.txt", "obj.names")
_LARGEST_NUMBER = 1 << 31
_MOST_KEYPOINTS = 10_000


@dataclass(frozen=True)
class YoloDescription:
    """What is known of a dataset.

    Args:
        file: that says it; what errors name.
        names: of the classes by their numbers, in the order of these.
        places: of the splits, by "train", "val" and "test": paths of folders and lists.
        bases: the folders from which such paths count, the first one first.
        keypoints: how many numbers of keypoints follow each box; 0 for boxes or outlines, None where it is not said.
    """

    file: Path
    names: dict[int, str]
    places: Mapping[str, tuple[str, ...]]
    bases: tuple[Path, ...]
    keypoints: int | None = None


def find_description(root: Path, named: Path | None) -> YoloDescription | None:
    """What the file of the option, data.yaml, the only other YAML file or a list of classes in `root` says.

    Raises:
        InputError: a file that is not what it must be, or several among which nothing chooses.
    """
    file = named or _yaml_in(root)
    if file is not None:
        return _read(file, root)
    listed = next((root / name for name in _LISTS if (root / name).is_file()), None)
    if listed is None:
        return None
    return YoloDescription(listed, _unique(listed, dict(enumerate(names_in(listed)))), {}, (root,))


def looked_for() -> str:
    """Where names of classes are sought, in words."""
    return f"data.yaml, {', '.join(_LISTS)}"


def _yaml_in(root: Path) -> Path | None:
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    others = sorted(each for ending in ("*.yaml", "*.yml") for each in root.glob(ending) if each.is_file())
    if len(others) > 1:
        raise InputError(f"{root} holds {', '.join(each.name for each in others[:3])}; name one as data.data_yaml")
    return others[0] if others else None


def _read(file: Path, root: Path) -> YoloDescription:
    found = read_located(file, str(file), _EXPECTED)
    content = found.content
    names = _names(file, found)
    count = content.get("nc")
    if count is not None and count != len(names):
        raise InputError(
            f"{_where(file, found, 'nc')}: nc is {count!r:.40}, and names has {len(names)}; expected as many"
        )
    places = {key: _places(file, found, key) for key in ("train", "val", "test")}
    base = content.get("path")
    if base is not None and not isinstance(base, str):
        raise InputError(f"{_where(file, found, 'path')}: path {base!r:.60}; expected the path of a folder")
    bases = [] if not base else [file.parent / base, root / base]
    bases = [*filter(os.path.isdir, bases), file.parent, root]
    return YoloDescription(file, names, places, tuple(bases), _keypoints(file, found))


def _names(file: Path, found: Located) -> dict[int, str]:
    names = found.content.get("names")
    where = _where(file, found, "names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise InputError(f"{where}: names {names!r:.60}; expected a list of classes, or {{0: NAME, 1: NAME}}")
    for number, name in names.items():
        if type(number) is not int or not 0 <= number < _LARGEST_NUMBER:
            raise InputError(f"{where}: names has the number {number!r:.40}; expected whole numbers from 0")
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            raise InputError(f"{where}: class {number} is called {name!r:.60}; expected a name, in quotes if in doubt")
    return _unique(file, {number: str(name) for number, name in sorted(names.items())})


def _unique(file: Path, names: dict[int, str]) -> dict[int, str]:
    first: dict[str, int] = {}
    called = {number: canonical(name.strip()) for number, name in names.items()}
    for number, name in called.items():
        other = first.setdefault(name, number)
        if other != number:
            raise InputError(f"{file}: classes {other} and {number} are both called {name!r}; rename one")
    return called


def _places(file: Path, found: Located, key: str) -> tuple[str, ...]:
    value: Any = found.content.get(key)
    places = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(place, str) and place.strip() for place in places):
        raise InputError(f"{_where(file, found, key)}: {key} {value!r:.60}; expected paths of folders or lists")
    return tuple(places)


def _keypoints(file: Path, found: Located) -> int | None:
    if "kpt_shape" not in found.content:
        return None
    shape = found.content["kpt_shape"]
    if shape is None:
        return 0
    if not (
        isinstance(shape, list)
        and [type(number) for number in shape] == [int, int]
        and 1 <= shape[0] <= _MOST_KEYPOINTS
        and shape[1] in (2, 3)
    ):
        raise InputError(
            f"{_where(file, found, 'kpt_shape')}: kpt_shape {shape!r:.60}; expected how many keypoints an object has, "
            "and 2 or 3 numbers for each, as in [17, 3]"
        )
    return int(shape[0] * shape[1])


def _where(file: Path, found: Located, key: str) -> str:
    place = found.origin.get(key)
    return str(file if place is None else place)
