"""Folders in YOLO's layout: pictures in images, a text file of the same name for each in labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from switchnorm.data.detection.annotated import OTHER_CLASSES, Annotated, count_out, label_table, numbered, pictures_of
from switchnorm.data.detection.gathered import Gathered
from switchnorm.data.detection.listed import Listed
from switchnorm.data.detection.yolo_file import YoloObject, keypoints_instead, read_yolo
from switchnorm.data.detection.yolo_yaml import YoloDescription
from switchnorm.data.files.listing import EXTENSIONS, NAMES, Spelling, find_listed, read_lines
from switchnorm.data.files.refusals import RAISED, Refusals
from switchnorm.data.files.walk import Account, find_files, no_pictures
from switchnorm.errors import InputError
from switchnorm.text import canonical

_IMAGES, _LABELS = "images", "labels"
#: From so many lines on, all of which fit boxes with keypoints, they are no outlines.
_SURE = 10
#: Numbers of an outline of four corners, as boxes that lie aslant have: rather these than two keypoints.
_CORNERS = 8


@dataclass(frozen=True)
class YoloFiles:
    """The files of a split.

    Args:
        source: the folder or the list that names the pictures; what errors name.
        root: of the dataset.
        pictures: their paths below it, or beside.
        account: of what lies there and was not taken.
        changed: of what was taken otherwise than it is written.
        whole: whether all pictures of their folders are among these, so that other labels have none.
    """

    source: Path
    root: Path
    pictures: list[str]
    account: Account
    changed: Account
    whole: bool


def yolo_layouts(split: str, about: YoloDescription | None) -> str:
    """The layouts that `find_yolo` looks for, in words."""
    name = NAMES[split][0]
    beside = f"{_IMAGES}/{name} with {_LABELS}/{name}, {name}/{_IMAGES} with {name}/{_LABELS}"
    named = () if about is None else about.places.get(split, ())
    where = f" ({', '.join(named)})" if named else ""
    return f"what {split} of data.yaml names{where}, {beside}"


def find_yolo(root: Path, split: str, about: YoloDescription | None, *, may_miss: bool) -> YoloFiles | None:
    """A split's pictures; None where it is absent.

    Args:
        root: of the dataset.
        split: train, val or test.
        about: what is known of it.
        may_miss: whether pictures of a list may be missing.

    Raises:
        InputError: what is named and not there, no pictures, or two of the same label file.
    """
    account, changed = Account(), Account()
    usual = [root / place.format(name) for name in NAMES[split] for place in ("images/{}", "{}/images")]
    usual = [place for place in usual if place.is_dir()]
    named = () if about is None else about.places.get(split, ())
    places = [(_located(about, place), place) for place in named] if about is not None else []
    if about is not None and usual and any(found is None for found, _ in places):
        changed.add(
            f"paths for {split} in {about.file.name} that are not here, for which {usual[0]} is taken", named[0]
        )
        places = []
    there = [found for found, _ in places if found is not None] or usual[:1]
    if not there:
        return None
    absent = next((place for found, place in places if found is None), None)
    if about is not None and absent is not None:
        raise InputError(f"{about.file}: {split} {absent!r} is not there, neither from {about.bases[0]} nor {root}")
    pictures: list[str] = []
    for taken in there:
        if taken.is_dir():
            below = find_files(taken, EXTENSIONS)
            account.extend(each for each in below.left_out if each.reason != "files of type .txt")
            pictures += [os.path.relpath(path, root) for path in below.paths]
        else:
            pictures += _of_list(taken, about.bases if about is not None else (root,), root, account, may_miss)
    if not pictures:
        raise InputError(f"{there[0]} holds {no_pictures(account.total())}")
    _refuse_repeated(there[0], pictures)
    return YoloFiles(there[0], root, pictures, account, changed, all(taken.is_dir() for taken in there))


def _located(about: YoloDescription, place: str) -> Path | None:
    """What a path of data.yaml stands for; exports of Roboflow have paths from a folder beside."""
    shorter = [place.removeprefix("../")] if place.startswith("../") else []
    tried = (base / each for each in (place, *shorter) for base in about.bases)
    return next((each for each in tried if os.path.exists(each)), None)  # of any length


def _of_list(file: Path, bases: Sequence[Path], root: Path, account: Account, may_miss: bool) -> list[str]:
    names = [line.strip() for line in read_lines(file) if line.strip()]
    if not names:
        raise InputError(f"{file} is empty; expected the path of a picture in each line")
    folders = list(dict.fromkeys([file.parent, *bases]))
    found, folder = find_listed(names, folders, file, "pictures", may_miss=may_miss)
    there = [name for name in found if (folder / name).exists()]
    if len(there) < len(found):
        missing = next(name for name in found if not (folder / name).exists())
        account.add("pictures that are missing", str(folder / missing), len(found) - len(there))
    return [os.path.relpath(folder / name, root) for name in there]


def _refuse_repeated(source: Path, pictures: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name in pictures:
        other = first.setdefault(canonical(label_of(name)), name)
        if other is not name:
            what = "is listed twice" if other == name else f"and {other} have the same labels"
            raise InputError(f"{source}: {name} {what}; expected pictures of different names")


def label_of(picture: str) -> str:
    """The path of a picture's labels: in labels where the last folder called images is, or else beside it."""
    stem = os.path.splitext(picture)[0]
    parts = stem.split(os.sep)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == _IMAGES:
            return os.sep.join([*parts[:place], _LABELS, *parts[place + 1 :]]) + ".txt"
    return f"{stem}.txt"


def _spelled(files: YoloFiles) -> list[str]:
    """The paths of the pictures' labels below the root, as a system spells them where they are there."""
    spelling = Spelling(files.root)
    wanted = [label_of(picture) for picture in files.pictures]
    return [spelling.of(name) or spelling.of(f"{name.removesuffix('.txt')}.TXT") or name for name in wanted]


class YoloSplit(Annotated):
    """A split, whose labels are read and whose pictures are not opened yet.

    Args:
        files: of the split.
        names: of the classes by their numbers.
        source: of the names, for errors.
        masks: whether outlines are kept.
        may_miss: whether files may be damaged.
        keypoints: how many numbers of keypoints may follow a box; None where nothing says whether lines are boxes with
            keypoints, or outlines.
        refusals: what becomes of lines of no class, which are left out otherwise.

    Raises:
        InputError: labels that are none, or no labels at all; outlines that seem to be boxes with keypoints.
    """

    def __init__(
        self,
        files: YoloFiles,
        names: dict[int, str],
        source: str,
        *,
        masks: bool,
        may_miss: bool,
        keypoints: int | None = None,
        refusals: Refusals = RAISED,
    ) -> None:
        self._files, self._names, self._masks, self._may_miss = files, names, masks, may_miss
        self._refusals = refusals
        self._paths = [files.root / name for name in _spelled(files)]
        self._read: list[list[YoloObject] | None] = []
        without: list[str] = []
        for picture, path in zip(files.pictures, self._paths, strict=True):
            try:
                self._read.append(read_yolo(path, keypoints or 0))
            except FileNotFoundError:
                without.append(picture)
                self._read.append([])
            except InputError:
                if not may_miss:
                    raise
                files.account.add("pictures whose labels cannot be read", str(path))
                self._read.append(None)
        if len(without) == len(files.pictures):
            raise InputError(
                f"none of the {len(without)} pictures in {files.source} has a file of labels; expected "
                f"{files.root / label_of(without[0])}"
            )
        if without:
            files.changed.add("pictures without a file of labels, taken as without objects", without[0], len(without))
        if keypoints and (found := sum(map(len, filter(None, self._read)))):
            files.changed.add("objects of a dataset of keypoints, whose boxes alone are taken", source, found)
        if keypoints is None:
            self._tell_keypoints(source)
        if files.whole:
            self._count_lonely()
        self._refuse_unknown(source)

    def _tell_keypoints(self, source: str) -> None:
        """Say, or refuse where it is sure, that what passes as outlines seems to be boxes with keypoints."""
        placed = [(place, each) for place, found in enumerate(self._read) for each in found or () if each.outline]
        objects = [each for _, each in placed]
        shape = keypoints_instead(objects)
        if shape is None:
            return
        line = self._named(placed[0][0], objects[0].line)
        which = f"kpt_shape: [{shape[0]}, {shape[1]}]"
        if len(objects) >= _SURE and len(objects[0].outline) != _CORNERS:
            raise InputError(
                f"{line}, and all {len(objects)} outlines of {self._files.source}, fit a box and {shape[0]} keypoints; "
                f"say {which} in data.yaml, or kpt_shape: null for outlines"
            )
        self._files.changed.add(
            f"lines taken as outlines that fit a box and {shape[0]} keypoints as well, as {which} in data.yaml says",
            line,
            len(objects),
        )

    def _count_lonely(self) -> None:
        """Labels that belong to no picture."""
        root = self._files.root
        used = {canonical(os.path.join(root, label_of(picture))) for picture in self._files.pictures}
        for folder in sorted({os.path.dirname(path) for path in used}):
            texts = sorted(Path(folder).glob("*.txt")) if os.path.isdir(folder) else []
            lonely = [path for path in texts if canonical(str(path)) not in used and path.name != "classes.txt"]
            if lonely:
                self._files.account.add("labels without a picture", str(lonely[0]), len(lonely))

    def _refuse_unknown(self, source: str) -> None:
        objects = ((place, each) for place, found in enumerate(self._read) for each in found or ())
        if not (foreign := [(place, each) for place, each in objects if each.number not in self._names]):
            return
        place, each = foreign[0]
        known = f"0 to {len(self._names) - 1}" if [*self._names] == [*range(len(self._names))] else "others"
        more = f", as {len(foreign)} lines have classes without a name" if foreign[1:] else ""
        self._refusals.refuse(
            InputError(f"{self._named(place, each.line)} has class {each.number}{more}; {source} names {known}")
        )
        for place, _ in foreign:
            self._read[place] = [each for each in self._read[place] or () if each.number in self._names]

    def _named(self, place: int, line: int) -> str:
        return f"{self._paths[place]}, line {line}"

    @property
    def classes(self) -> tuple[str, ...]:
        """As `Annotated`: in the order of their numbers."""
        return tuple(self._names.values())

    @property
    def used(self) -> tuple[str, ...]:
        """As `Annotated`."""
        numbers = {each.number for found in self._read for each in found or ()}
        return tuple(name for number, name in self._names.items() if number in numbers)

    def listed(self, names: Sequence[str], *, others: bool) -> Listed:
        """As `Annotated`."""
        files = self._files
        labels = self._labels(names, files.source, others=others)
        objects = Gathered(self._named, masks=self._masks)
        objects.left_out.extend(files.account.total())
        objects.changed.extend(files.changed.total())
        whole = [place for place, found in enumerate(self._read) if found is not None]
        taken, paths, sizes = pictures_of(
            [files.pictures[place] for place in whole],
            files.root,
            lambda _: None,
            lambda place: files.pictures[whole[place]],
            objects.left_out,
            may_miss=self._may_miss,
        )
        numbers = {number: place for place, number in enumerate(self._names)}
        for place, size in zip(taken, sizes.tolist(), strict=True):
            self._add(objects, whole[place], size, numbers)
        table = label_table(labels, self.classes)[objects.labels()]
        count_out(objects, OTHER_CLASSES, table == 0)
        pictures = numbered(objects, [whole[place] for place in taken], len(self._read))
        ids = np.arange(1, len(taken) + 1)
        return objects.listed(files.source, paths, ids, sizes, pictures, table, may_miss=self._may_miss)

    def _add(self, objects: Gathered, place: int, size: Sequence[int], numbers: dict[int, int]) -> None:
        height, width = size
        for each in self._read[place] or ():
            x1, y1, x2, y2 = each.box
            outline = [
                side * share
                for side, share in zip((width, height) * (len(each.outline) // 2), each.outline, strict=True)
            ]
            objects.add(
                place,
                each.line,
                (x1 * width, y1 * height, x2 * width, y2 * height),
                numbers[each.number],
                outlines=(outline,) if outline else (),
            )
