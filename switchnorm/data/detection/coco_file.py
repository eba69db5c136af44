"""COCO's JSON files of objects: pictures, categories and annotations."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from switchnorm.data.detection.annotated import OTHER_CLASSES, count_out, label_table
from switchnorm.data.detection.gathered import Gathered
from switchnorm.data.detection.json_stream import read_lists
from switchnorm.data.detection.listed import Listed
from switchnorm.data.detection.run_lengths import compressed
from switchnorm.data.files.opening import sides
from switchnorm.data.files.refusals import RAISED, Refusals
from switchnorm.data.files.shards import find_pictures
from switchnorm.errors import InputError
from switchnorm.text import canonical

# Of a picture, in pixels: what JPEG can have. Ids are numbers of 53 bits, which every JSON reader keeps.
_LONGEST_SIDE, _GREATEST_ID = 65_535, 1 << 53
_MOST_CATEGORIES = 100_000


@dataclass
class CocoFile:
    """What a file holds, before it is known which pictures are there and which classes are taken.

    Attributes:
        path: of the file.
        names: of the pictures.
        ids: of the pictures, in the same order.
        sizes: height and width of each in turn.
        categories: names by id, in the order of the ids.
        parents: the categories that categories are said to belong to, by id.
        sized_runs: of each object with run lengths its place, and their height and width.
        repeated: how many annotations have the id of another.
        objects: their labels are ids of categories, their pictures ids of pictures.
    """

    path: Path
    objects: Gathered
    names: list[str] = field(default_factory=list)
    ids: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    categories: dict[int, str] = field(default_factory=dict)
    parents: dict[int, str] = field(default_factory=dict)
    sized_runs: array[int] = field(default_factory=lambda: array("q"))
    repeated: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the categories in the order of their ids, without one that only holds the others together."""
        heading = self.heading
        return tuple(name for number, name in self.categories.items() if number != heading)

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The ids of `classes`."""
        heading = self.heading
        return tuple(number for number in self.categories if number != heading)

    @property
    def heading(self) -> int | None:
        """The id of a category to which all others belong and that has no objects, as Roboflow writes it."""
        named = {name: number for number, name in self.categories.items()}
        counts = Counter(self.parents.values())
        for parent, count in counts.most_common(2):
            number = named.get(parent)
            others = len(self.categories) - 1
            if number is None or not others or number in self._used:
                continue
            if count - (self.parents.get(number) == parent) == others:
                return number
        return None

    @property
    def _used(self) -> set[int]:
        return set(np.unique(self.objects.labels()).tolist())

    @property
    def used(self) -> tuple[str, ...]:
        """The names of the categories that have objects."""
        used = self._used
        return tuple(name for number, name in self.categories.items() if number in used)

    def listed(
        self, folders: Sequence[Path | str], labels: Mapping[str, int], *, may_miss: bool, refusals: Refusals
    ) -> Listed:
        """The pictures that lie in one of the folders, with their objects.

        Args:
            folders: below which pictures may lie, or their shards, then also a URL; that where the fewest are missing
                counts.
            labels: from 1, of the classes by their names; objects of others are left out.
            may_miss: whether pictures may be missing, as long as one is there.
            refusals: what becomes of objects of no category, which are left out otherwise.

        Raises:
            InputError: pictures that are missing, or objects that are none.
        """
        objects, path = self.objects, self.path
        found, paths = find_pictures(self.names, folders, path, may_miss=may_miss)
        ids, sizes = np.array(self.ids, np.int64), np.array(self.sizes, np.int64).reshape(-1, 2)
        pictures = _places(objects.pictures(), ids)
        categories = _places(objects.labels(), np.array([*self.categories], np.int64))
        self._refuse_unknown(categories, refusals)
        self._check_runs(pictures, sizes)
        labelled = label_table(labels, [*self.categories.values()])[categories]
        count_out(objects, "objects of pictures that the file does not list", pictures < 0)
        count_out(objects, OTHER_CLASSES, (pictures >= 0) & (categories >= 0) & (labelled == 0))
        if self.repeated:
            objects.changed.add("annotations with the id of another, which are all taken", str(path), self.repeated)
        if twice := [name for name, count in Counter(found).items() if count > 1]:
            objects.changed.add("files that several images name, each with objects of its own", twice[0], len(twice))
        return objects.listed(path, paths, ids, sizes, pictures, labelled, may_miss=may_miss)

    def _refuse_unknown(self, categories: np.ndarray[Any, Any], refusals: Refusals) -> None:
        if unknown := int((categories < 0).sum()):
            place = int((categories < 0).argmax())
            number = int(self.objects.labels()[place])
            nearest = min(self.categories, key=lambda known: abs(known - number), default=None)
            more = f", as {unknown} annotations have ids of no category" if unknown > 1 else ""
            refusals.refuse(
                InputError(
                    f"{self.objects.named(*self.objects.number(place))} has category_id {number}, which none of the "
                    f"{len(self.categories)} categories has{more}"
                    + ("" if nearest is None else f"; the nearest is {nearest}, {self.categories[nearest]!r}")
                )
            )

    def _check_runs(self, pictures: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]) -> None:
        """Refuse run lengths that are of another size than their picture."""
        runs = np.array(self.sized_runs, np.int64).reshape(-1, 3)
        runs = runs[pictures[runs[:, 0]] >= 0]
        other = (sizes[pictures[runs[:, 0]]] != runs[:, 1:]).any(1)
        if other.any():
            place, *size = runs[int(other.argmax())].tolist()
            raise InputError(
                f"{self.objects.named(*self.objects.number(place))} has run lengths of {sides(size)}; its picture "
                f"is {sides(sizes[pictures[place]])}"
            )


def read_coco(path: Path, *, masks: bool, refusals: Refusals = RAISED) -> CocoFile:
    """All of a file.

    Args:
        path: of the file.
        masks: whether masks are kept.
        refusals: what becomes of images of one id, whose objects are taken to be one of them's otherwise.

    Raises:
        InputError: no such file, no JSON, or entries that are not what COCO's are.
    """
    title = str(path)
    file = CocoFile(path, Gathered(lambda _, number: f"{title}: annotation {number}", masks=masks))
    there = read_lists(
        path,
        title,
        {
            "images": lambda entry: _take_picture(file, entry),
            "categories": lambda entry: _take_category(file, entry),
            "annotations": lambda entry: _take_annotation(file, entry, masks),
        },
    )
    for key in ("images", "categories", "annotations"):
        if key not in there:
            raise InputError(f"{path} has no {key!r}; expected COCO's images, annotations and categories")
    if not file.names:
        raise InputError(f"{path} lists no images")
    if not file.categories:
        raise InputError(f"{path} lists no categories")
    ids = np.sort(np.array(file.ids, np.int64))
    if (twice := ids[1:][ids[1:] == ids[:-1]]).size:
        refusals.refuse(InputError(f"{path}: {twice.size} images have the id of another, the first is {twice[0]}"))
    file.categories = dict(sorted(file.categories.items()))
    _check_names(file)
    numbers = file.objects.numbers()
    file.repeated = len(numbers) - len(np.unique(numbers))
    return file


def _check_names(file: CocoFile) -> None:
    first: dict[str, int] = {}
    for number, name in file.categories.items():
        other = first.setdefault(canonical(name), number)
        if other != number:
            raise InputError(f"{file.path}: categories {other} and {number} are both called {name!r}; rename one")


def _take_picture(file: CocoFile, entry: Any) -> None:
    place = len(file.names)
    where = f"{file.path}: image {place} (the first is 0)"
    name, number = _field(entry, "file_name", where), _number(entry, "id", where)
    if not isinstance(name, str) or not name.strip("/\\") or "\0" in name or not _is_text(name):
        raise InputError(f"{where} has file_name {name!r:.80}; expected the path of a picture")
    size = [_field(entry, key, where) for key in ("height", "width")]
    for key, side in zip(("height", "width"), size, strict=True):
        if isinstance(side, bool) or not isinstance(side, int | float) or not 1 <= side <= _LONGEST_SIDE or side % 1:
            raise InputError(f"{where} has {key} {side!r:.40}; expected a number of pixels")
    file.names.append(name)
    file.ids.append(number)
    file.sizes.extend(map(int, size))


def _take_category(file: CocoFile, entry: Any) -> None:
    where = f"{file.path}: category {len(file.categories)} (the first is 0)"
    name, number = _field(entry, "name", where), _number(entry, "id", where)
    if not isinstance(name, str) or not name.strip() or len(name) > 1000 or not _is_text(name):
        raise InputError(f"{where} has name {name!r:.80}; expected the name of a class")
    if number in file.categories:
        raise InputError(f"{where} has id {number}, as {file.categories[number]!r} has; expected one of its own")
    if len(file.categories) >= _MOST_CATEGORIES:
        raise InputError(f"{file.path} lists more than {_MOST_CATEGORIES} categories")
    file.categories[number] = canonical(name.strip())
    parent = entry.get("supercategory")
    if isinstance(parent, str):
        file.parents[number] = canonical(parent.strip())


def _take_annotation(file: CocoFile, entry: Any, masks: bool) -> None:
    objects = file.objects
    place = len(objects)
    try:  # the way of nearly all, without a look at each part
        number, picture, category = entry["id"], entry["image_id"], entry["category_id"]
        x, y, width, height = entry["bbox"]
        box = (x, y, x + width, y + height)
        ids = type(number) is int and type(picture) is int and type(category) is int and type(entry["bbox"]) is list
    except (TypeError, KeyError, ValueError):
        ids = False
    if not ids:
        raise _why_no_annotation(f"{file.path}: annotation {place} (the first is 0)", entry)
    outlines: Sequence[Any] = ()
    runs = b""
    drawn = entry.get("segmentation") if masks else None
    if isinstance(drawn, list):
        outlines = drawn if not drawn or isinstance(drawn[0], list) else [drawn]
    elif drawn is not None:
        runs = _runs(file, drawn, number, place)
    area = entry.get("area")
    try:
        objects.add(
            picture,
            number,
            box,
            category,
            area=math.nan if area is None else area,
            crowd=_flag(entry.get("iscrowd", 0)) or _flag(entry.get("ignore", 0)),
            outlines=outlines,
            runs=runs,
        )
    except InputError as error:  # which names the annotation
        if all(isinstance(value, int | float) for value in entry["bbox"]):
            raise
        raise _why_no_annotation(f"{file.path}: annotation {place} (the first is 0)", entry) from error
    except (TypeError, OverflowError, ValueError) as error:
        raise InputError(f"{file.path}: annotation {place} (the first is 0) has {error}") from error


def _runs(file: CocoFile, drawn: Any, number: int, place: int) -> bytes:
    try:
        if not isinstance(drawn, dict):
            raise ValueError(f"segmentation {drawn!r:.40}, which is neither outlines nor run lengths")
        text = compressed(drawn.get("counts"), drawn.get("size"))
    except ValueError as error:
        raise InputError(f"{file.path}: annotation {number} has {error}") from error
    height, width = drawn["size"]
    file.sized_runs.extend((place, height, width))
    return text


def _flag(value: Any) -> bool:
    if value is None or value in (0, 1):
        return bool(value)
    raise ValueError(f"iscrowd {value!r:.40}, which is neither 0 nor 1")


def _why_no_annotation(where: str, entry: Any) -> InputError:
    for key in ("id", "image_id", "category_id"):
        _number(entry, key, where)
    box = _field(entry, "bbox", where)
    return InputError(f"{where} has bbox {box!r:.80}; expected [x, y, width, height]")


def _field(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r:.60}; expected an object with keys")
    if key not in entry:
        raise InputError(f"{where} has no {key!r}")
    return entry[key]


def _number(entry: Any, key: str, where: str) -> int:
    value = _field(entry, key, where)
    if type(value) is not int or abs(value) >= _GREATEST_ID:
        raise InputError(f"{where} has {key} {value!r:.40}; expected a whole number")
    return value


def _is_text(value: str) -> bool:
    """Whether it is Unicode, and not half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _places(wanted: np.ndarray[Any, Any], known: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(K,) int64: where each of the wanted numbers is among the known ones; -1 for one that is not."""
    if not len(known):
        return np.full(len(wanted), -1)
    order = np.argsort(known)
    places = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)]
    return np.where(known[places] == wanted, places, -1)
