"""Folders with COCO's JSON files, in the layouts in which people have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from switchnorm.data.detection.annotated import Annotated
from switchnorm.data.detection.coco_file import read_coco
from switchnorm.data.detection.listed import Listed
from switchnorm.data.files.listing import NAMES
from switchnorm.data.files.refusals import RAISED, Refusals
from switchnorm.errors import InputError

#: Files of a split by its name: of COCO with a year, of CVAT, and of Roboflow.
_FILES = (
    "annotations/instances_{}[0-9][0-9][0-9][0-9].json",
    "annotations/instances_{}.json",
    "annotations/{}.json",
    "instances_{}.json",
    "{}.json",
    "{}/_annotations.coco.json",
    "{}/annotations.json",
)


@dataclass(frozen=True)
class CocoPlace:
    """Where a split is.

    Args:
        file: the JSON file.
        folders: below which its pictures may lie, as files or in shards.
    """

    file: Path
    folders: tuple[Path | str, ...]


def coco_layouts(split: str) -> str:
    """The layouts that `find_coco` looks for, in words."""
    name = NAMES[split][0]
    return (
        f"annotations/instances_{name}2017.json or of another year with {name}2017, annotations/instances_{name}.json, "
        f"annotations/{name}.json or {name}.json with {name}, images/{name} or images, {name}/_annotations.coco.json"
    )


def find_coco(root: Path, split: str, file: Path | None, pictures: Path | str | None) -> CocoPlace | None:
    """Where a split is; None where it is absent.

    Args:
        root: of the dataset.
        split: train, val or test.
        file: that was named, or None.
        pictures: the folder or URL that was named, or None.

    Raises:
        InputError: several files among which nothing chooses.
    """
    if file is None:
        found = [
            each for name in NAMES[split] for pattern in _FILES for each in sorted(root.glob(pattern.format(name)))
        ]
        found = [each for each in found if each.is_file()]
        if len(found) > 1:
            several = ", ".join(str(each.relative_to(root)) for each in found[:3])
            option = "train_json" if split == "train" else "test_json"
            raise InputError(f"{root} holds {several}; name one as data.{option}")
        if not found:
            return None
        file = found[0]
    if pictures is not None:
        return CocoPlace(file, (pictures,))
    year = file.stem[-4:] if file.stem[-4:].isdigit() else ""
    names = [name + ending for ending in dict.fromkeys((year, "")) for name in NAMES[split]]
    places = [f"{folder}{name}" for name in names for folder in ("", "images/")]
    tried = [file.parent, *(root / place for place in (*places, "images")), root]
    return CocoPlace(file, tuple(dict.fromkeys(folder for folder in tried if folder.is_dir())))


class CocoSplit(Annotated):
    """A split, whose file is read and whose pictures are not opened.

    Args:
        place: where it is.
        masks: whether masks are kept.
        may_miss: whether pictures may be missing or damaged.
        refusals: what becomes of what training would stop at, and others can go on without.

    Raises:
        InputError: as `read_coco`.
    """

    def __init__(self, place: CocoPlace, *, masks: bool, may_miss: bool, refusals: Refusals = RAISED) -> None:
        self._place, self._may_miss, self._refusals = place, may_miss, refusals
        self._file = read_coco(place.file, masks=masks, refusals=refusals)

    @property
    def classes(self) -> tuple[str, ...]:
        """As `Annotated`: in the order of their ids."""
        return self._file.classes

    @property
    def class_ids(self) -> tuple[int, ...]:
        """As `Annotated`: those of the categories."""
        return self._file.class_ids

    @property
    def used(self) -> tuple[str, ...]:
        """As `Annotated`."""
        return self._file.used

    def listed(self, names: Sequence[str], *, others: bool) -> Listed:
        """As `Annotated`."""
        labels = self._labels(names, self._place.file, others=others)
        return self._file.listed(self._place.folders, labels, may_miss=self._may_miss, refusals=self._refusals)
