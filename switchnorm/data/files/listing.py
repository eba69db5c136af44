"""Which pictures a split has, and what their labels are: from folders of classes, or from a list file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from switchnorm.data.files.walk import EXTENSIONS, LeftOut, files_in, find_files, folders_in, no_pictures
from switchnorm.errors import InputError
from switchnorm.text import canonical, read_text

#: What a split's folder or list may be called.
NAMES = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}

_MOST_LABELS, _MOST_DIGITS = 1_000_000, 20
# Of a list; one of ImageNet's 14 million pictures has 600 MB.
_LARGEST_LIST = 1 << 30


class Paths:
    """Many paths below one folder, as two tensors: a million strings would be copied into every worker process.

    Args:
        folder: the folder, made absolute, because a worker may live in another one.
        names: the paths below it.

    Attributes:
        shards: the archives that they are in; none of files.
    """

    shards: Sequence[str] = ()

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.folder = os.path.abspath(folder)
        self._text = torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8)
        self._ends = torch.tensor([0, *map(len, encoded)]).cumsum(0)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.path.join(self.folder, self.name(index))

    def names(self) -> Iterator[str]:
        """All paths below the folder in order, many times as fast as one by one."""
        text, ends = self._text.numpy().tobytes(), self._ends.tolist()
        return (os.fsdecode(text[start:end]) for start, end in itertools.pairwise(ends))

    def chosen(self, places: Sequence[int]) -> Paths:
        """Some of them, in that order."""
        return Paths(Path(self.folder), [self.name(place) for place in places])

    def name(self, index: int) -> str:
        """The path below the folder, as it was given."""
        start, end = self._ends[index : index + 2].tolist()
        return os.fsdecode(self._text[start:end].numpy().tobytes())


@dataclass(frozen=True)
class Listing:
    """The labelled pictures of a split.

    Args:
        source: the list file, the folder of classes, or where the shards are; what errors name.
        paths: of the pictures.
        labels: (N,) int64.
        names: what each label's folder is called, for labels that have a folder of their own.
        written: whether the labels are written in a list; otherwise they number the sorted folders.
        left_out: what lies there and was not taken.
    """

    source: Path | str
    paths: Paths
    labels: Tensor
    names: dict[int, str]
    written: bool
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def read_folders(folder: Path) -> Listing:
    """The pictures in a folder of classes, `folder/CLASS/**/*.jpg`; labels number the sorted names of the classes.

    Raises:
        InputError: no classes, no pictures, or two classes that are the same folder.
    """
    classes, account = folders_in(folder)
    names: list[str] = []
    labels: list[int] = []
    first: dict[str, str] = {}
    for label, name in enumerate(classes):
        other = first.setdefault(os.path.realpath(folder / name), name)
        if other != name:
            raise InputError(f"{folder}: classes {other!r} and {name!r} are the same folder; remove the link")
        found = find_files(folder / name, EXTENSIONS)
        account.extend(found.left_out)
        names.extend(os.path.relpath(path, folder) for path in found.paths)
        labels.extend([label] * len(found.paths))
    beside = files_in(folder, EXTENSIONS, account)
    if beside:
        account.add("pictures beside the folders of classes", beside[0], len(beside))
    if not names:
        what = "its class folders hold" if classes else "it has no class folders, so"
        raise InputError(f"{folder}: {what} {no_pictures(account.total())}")
    called = dict(enumerate(map(canonical, classes)))
    return Listing(folder, Paths(folder, names), torch.tensor(labels), called, written=False, left_out=account.total())


def read_list(file: Path, folders: Sequence[Path], *, may_miss: bool) -> Listing:
    """The pictures that a list file names, a "path label" in each line.

    Args:
        file: the list.
        folders: below which the paths may lie; that where the fewest are missing counts.
        may_miss: whether pictures may be missing, as long as one is there.

    Raises:
        InputError: a list that cannot be read, a line that is no path and label, or pictures that are missing.
    """
    names, labels = _parse(file)
    names, folder = find_listed(names, folders, file, "pictures", may_miss=may_miss)
    return Listing(file, Paths(folder, names), torch.tensor(labels), _folder_names(names, labels), written=True)


def _parse(file: Path) -> tuple[list[str], list[int]]:
    names: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        name, label = line.rsplit(maxsplit=1) if len(line.split()) > 1 else (line, "")
        if not (label.isascii() and label.removeprefix("-").isdigit()):
            raise InputError(
                f"{file}: line {number} must be a path and a label, 'n01440764/a.JPEG 0', got {line!r:.100}"
            )
        if len(label) > _MOST_DIGITS or not 0 <= int(label) < _MOST_LABELS:
            raise InputError(f"{file}: line {number} has label {label:.40}; labels run from 0 to {_MOST_LABELS - 1}")
        names.append(name.strip())
        labels.append(int(label))
    if not names:
        raise InputError(f"{file} is empty; expected a path and a label in each line")
    return names, labels


def read_lines(file: Path) -> list[str]:
    """The lines of a list.

    Raises:
        InputError: the file cannot be read, or is no text.
    """
    title = f"list of pictures {file}"
    try:
        return read_text(file, title, _LARGEST_LIST).split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{title} is missing") from error


def find_listed(
    names: Sequence[str], folders: Sequence[Path], file: Path, what: str, *, may_miss: bool
) -> tuple[list[str], Path]:
    """The files that a list names, as the folder spells them in which the fewest are missing.

    A system may write é as one character or as two, and Windows separates folders by \\.

    Args:
        names: as the list has them.
        folders: below which they may lie.
        file: the list.
        what: they are, for the error.
        may_miss: whether some may be missing, as long as one is there.

    Returns:
        The names, and the folder.

    Raises:
        InputError: files that are missing.
    """
    best: tuple[list[str], list[str], Path] | None = None
    for folder in folders:
        spelling = Spelling(folder)
        spelled = [spelling.of(name) for name in names]
        missing = [name for name, there in zip(names, spelled, strict=True) if there is None]
        if best is None or len(missing) < len(best[1]):
            best = [there or name for name, there in zip(names, spelled, strict=True)], missing, folder
    assert best is not None
    found, missing, folder = best
    if missing and (len(missing) == len(names) or not may_miss):
        advice = "" if len(missing) == len(names) else "; bring them, or set on_damaged to 'skip'"
        raise InputError(
            f"{file}: {len(missing)} of its {len(names)} {what} are missing, the first is {folder / missing[0]}{advice}"
        )
    return found, folder


class Spelling:
    """How a folder spells the paths below it, by one look into each folder instead of one per file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, tuple[str, dict[str, str]]] = {}

    def of(self, name: str) -> str | None:
        """A path as it is spelled there; None where there is none."""
        found = self._find(name)
        return self._find(name.replace("\\", "/")) if found is None and "\\" in name else found

    def _find(self, name: str) -> str | None:
        parent, file = os.path.split(name)
        if not file:
            return None
        if parent not in self._entries:
            self._entries[parent] = self._look(parent)
        folder, entries = self._entries[parent]
        spelled = entries.get(file) or entries.get(canonical(file))
        return None if spelled is None else os.path.join(folder, spelled)

    def _look(self, parent: str) -> tuple[str, dict[str, str]]:
        """A folder as it is spelled, and its entries by their names, as they are and as they compare."""
        there = os.path.isdir(os.path.join(self.folder, parent)) or not parent
        folder = parent if there else self._find(parent)
        try:
            names = [] if folder is None else os.listdir(os.path.join(self.folder, folder))
        except OSError:
            names = []
        return folder or parent, {canonical(name): name for name in names} | {name: name for name in names}


def _folder_names(names: Sequence[str], labels: Sequence[int]) -> dict[int, str]:
    """The folder of each label's pictures, where every label has one of its own; otherwise nothing."""
    pairs = {(label, os.path.basename(os.path.dirname(name))) for name, label in zip(names, labels, strict=True)}
    known = {label: canonical(name) for label, name in pairs}
    own = len(pairs) == len(known) == len(set(known.values()))
    return known if own and "" not in known.values() else {}
