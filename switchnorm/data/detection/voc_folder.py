"""Folders in Pascal VOC's layout, or with an XML file for each picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from switchnorm.data.detection.annotated import OTHER_CLASSES, Annotated, count_out, label_table, numbered, pictures_of
from switchnorm.data.detection.gathered import Gathered
from switchnorm.data.detection.listed import Listed
from switchnorm.data.detection.voc_file import VocFile, read_voc
from switchnorm.data.files.listing import EXTENSIONS, NAMES, read_lines
from switchnorm.data.files.refusals import RAISED, Refusals
from switchnorm.data.files.walk import Account, find_files, no_pictures
from switchnorm.errors import InputError
from switchnorm.text import canonical

_LIST, _PICTURES, _ANNOTATIONS = "ImageSets/Main/{}.txt", "JPEGImages", "Annotations"


@dataclass(frozen=True)
class VocFiles:
    """The files of a split.

    Args:
        source: the list or the folder that names them.
        folder: of the pictures.
        pictures: their paths below it.
        annotations: the XML file of each.
        account: of what lies there and was not taken.
    """

    source: Path
    folder: Path
    pictures: list[str]
    annotations: list[Path]
    account: Account


def voc_lists(split: str) -> list[str]:
    """The paths of a split's list below the folder of a VOC dataset."""
    return [_LIST.format(name) for name in NAMES.get(split, (split,))]


def voc_layouts(split: str) -> str:
    """The layouts that `find_voc` looks for, in words."""
    name = NAMES.get(split, (split,))[0]
    official = f"{_PICTURES}, {_ANNOTATIONS} and {_LIST.format(name)}, also in VOC2007 or VOCdevkit/VOC2007"
    if split not in NAMES:
        return official
    folders = ", ".join(f"{one.format(name)} with {other.format(name)}" for one, other in _FOLDERS[1:])
    return f"{official}, {name} with .xml files beside the pictures, {folders}"


#: Where pictures and annotations are by the name of the split, where there are no lists.
_FOLDERS = (
    ("{}", "{}"),
    ("{}/images", "{}/annotations"),
    ("images/{}", "annotations/{}"),
    ("{}/JPEGImages", "{}/Annotations"),
)


def find_voc(root: Path, split: str, *, may_miss: bool) -> VocFiles | None:
    """A split's pictures and annotations; None where it is absent.

    Args:
        root: of the dataset.
        split: train, val, test or trainval.
        may_miss: whether files may be missing.

    Raises:
        InputError: files that are missing, or years of VOC among which nothing chooses.
    """
    home = _home(root)
    if home is not None:
        listed = next((home / name for name in voc_lists(split) if (home / name).is_file()), None)
        return None if listed is None else _by_list(home, listed, may_miss=may_miss)
    for name in NAMES.get(split, ()):
        for one, other in _FOLDERS:
            pictures, annotations = root / one.format(name), root / other.format(name)
            if pictures.is_dir() and annotations.is_dir() and _has_xml(annotations):
                return _by_folder(pictures, annotations, may_miss=may_miss)
    return None


def _home(root: Path) -> Path | None:
    """The folder with Annotations and JPEGImages: `root`, or the only one of a year below it."""
    if _is_home(root):
        return root
    years = [each for base in (root, root / "VOCdevkit") for each in sorted(base.glob("VOC20*")) if _is_home(each)]
    if len(years) > 1:
        raise InputError(f"{root} holds {', '.join(each.name for each in years)}; name one as data.root: {years[0]}")
    return years[0] if years else None


def _is_home(folder: Path) -> bool:
    return (folder / _ANNOTATIONS).is_dir() and (folder / _PICTURES).is_dir()


def _has_xml(folder: Path) -> bool:
    return any(name.lower().endswith(".xml") for name in os.listdir(folder))


def _by_list(home: Path, listed: Path, *, may_miss: bool) -> VocFiles:
    account, folder = Account(), home / _PICTURES
    there = _by_stem(folder, Account())
    stems = [_stem(canonical(line.strip()), there) for line in read_lines(listed) if line.strip()]
    if not stems:
        raise InputError(f"{listed} is empty; expected the name of a picture in each line, without its extension")
    if len(set(stems)) < len(stems):
        first: set[str] = set()
        twice = [stem for stem in stems if stem in first or first.add(stem)]  # type: ignore[func-returns-value]
        raise InputError(f"{listed}: {len(twice)} pictures are listed twice, the first is {twice[0]!r}")
    missing = [stem for stem in stems if stem not in there]
    if missing and (not may_miss or len(missing) == len(stems)):
        hint = "; a list of one class has 1 or -1 behind each name, which this may be" if " " in missing[0] else ""
        raise InputError(
            f"{listed}: {len(missing)} of its {len(stems)} pictures are missing, the first is {folder / missing[0]}.jpg"
            f"{hint or _go_on(missing, stems)}"
        )
    if missing:
        account.add("pictures that are missing", str(folder / f"{missing[0]}.jpg"), len(missing))
    found = [stem for stem in stems if stem in there]
    xml = _annotations(home / _ANNOTATIONS)
    annotations = [xml.get(stem, home / _ANNOTATIONS / f"{stem}.xml") for stem in found]
    return VocFiles(listed, folder, [there[stem] for stem in found], annotations, account)


def _stem(name: str, there: Mapping[str, str]) -> str:
    """What a list has, or where only that is there, without the extension that some lists have."""
    stem, extension = os.path.splitext(name)
    return stem if name not in there and stem in there and extension.lower() in EXTENSIONS else name


def _by_folder(folder: Path, annotations: Path, *, may_miss: bool) -> VocFiles:
    account = Account()
    there = _by_stem(folder, account)
    xml = _annotations(annotations)
    if not there:
        raise InputError(f"{folder} holds {no_pictures(account.total())}")
    lonely = [stem for stem in xml if stem not in there]
    if lonely:
        account.add("annotations without a picture", str(xml[lonely[0]]), len(lonely))
    missing = [stem for stem in there if stem not in xml]
    if missing and (not may_miss or len(missing) == len(there)):
        raise InputError(
            f"{len(missing)} of the {len(there)} pictures in {folder} have no annotation, the first is "
            f"{there[missing[0]]}; expected {annotations / missing[0]}.xml, without objects for a picture of none"
            f"{_go_on(missing, list(there))}"
        )
    if missing:
        account.add("pictures without an annotation", str(folder / there[missing[0]]), len(missing))
    found = [stem for stem in there if stem in xml]
    return VocFiles(folder, folder, [there[stem] for stem in found], [xml[stem] for stem in found], account)


def _go_on(missing: Sequence[str], wanted: Sequence[str]) -> str:
    return "; bring them, or set on_damaged to 'skip'" if len(missing) < len(wanted) else ""


def _annotations(folder: Path) -> dict[str, Path]:
    """The XML files below a folder by what they are called without extension, however a system spells that."""
    paths = find_files(folder, (".xml",)).paths
    return {canonical(os.path.splitext(os.path.relpath(path, folder))[0]): Path(path) for path in paths}


def _by_stem(folder: Path, account: Account) -> Mapping[str, str]:
    """The paths of pictures below a folder by what they are called without extension."""
    found: dict[str, str] = {}
    below = find_files(folder, EXTENSIONS)
    account.extend(each for each in below.left_out if each.reason != "files of type .xml")
    for path in below.paths:
        name = os.path.relpath(path, folder)
        other = found.setdefault(canonical(os.path.splitext(name)[0]), name)
        if other is not name:
            raise InputError(f"{folder} holds both {other} and {name}; expected one picture of that name")
    return found


class VocSplit(Annotated):
    """A split, whose annotations are read and whose pictures are not opened yet.

    Args:
        files: of the split.
        one_based: whether the first pixel is 1 and the greatest corner the last pixel of a box.
        difficult: whether difficult objects count as all others.
        may_miss: whether files may be missing or damaged.
        refusals: what becomes of objects of classes that are not known, which are left out otherwise.

    Raises:
        InputError: annotations that are missing or no XML of objects.
    """

    def __init__(
        self, files: VocFiles, *, one_based: bool, difficult: bool, may_miss: bool, refusals: Refusals = RAISED
    ) -> None:
        self._refusals = refusals
        self._files, self._one_based, self._difficult, self._may_miss = files, one_based, difficult, may_miss
        self._read: list[VocFile | None] = []
        for path in files.annotations:
            try:
                self._read.append(read_voc(path))
            except InputError:
                if not may_miss:
                    raise
                files.account.add("pictures whose annotations cannot be read", str(path))
                self._read.append(None)
        names = {each.name for file in self._read if file is not None for each in file.objects}
        self._classes = tuple(sorted(names))

    @property
    def classes(self) -> tuple[str, ...]:
        """As `Annotated`: sorted, for nothing else orders them."""
        return self._classes

    @property
    def used(self) -> tuple[str, ...]:
        """As `Annotated`."""
        return self._classes

    @property
    def official(self) -> bool:
        """Whether the annotations say that they are of the VOC challenges."""
        return any(file is not None and file.database.startswith("The VOC20") for file in self._read)

    def listed(self, names: Sequence[str], *, others: bool) -> Listed:
        """As `Annotated`."""
        files = self._files
        labels = self._labels(names, files.source, others=others)
        own = {name: number for number, name in enumerate(self._classes)}
        objects = Gathered(lambda picture, line: f"{files.annotations[picture]}, line {line}", masks=False)
        objects.left_out.extend(files.account.total())
        for place, file in enumerate(self._read):
            for each in () if file is None else file.objects:
                x1, y1, x2, y2 = each.box
                corner = 1 if self._one_based else 0
                box = (x1 - corner, y1 - corner, x2, y2)
                crowd = each.difficult and not self._difficult
                objects.add(place, each.line, box, own[each.name], crowd=crowd)
        whole = [place for place, file in enumerate(self._read) if file is not None]
        taken, paths, sizes = pictures_of(
            [files.pictures[place] for place in whole],
            files.folder,
            lambda place: self._stated(whole[place]),
            lambda place: str(files.annotations[whole[place]]),
            objects.left_out,
            may_miss=self._may_miss,
        )
        table = label_table(labels, self._classes)[objects.labels()]
        count_out(objects, OTHER_CLASSES, table == 0)
        pictures = numbered(objects, [whole[place] for place in taken], len(self._read))
        ids = np.arange(1, len(taken) + 1)
        return objects.listed(files.source, paths, ids, sizes, pictures, table, may_miss=self._may_miss)

    def _stated(self, place: int) -> tuple[int, int] | None:
        file = self._read[place]
        return None if file is None else file.size
