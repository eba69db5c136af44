"""Which pictures a split has, and what their labels are: from folders of classes, or from a list file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from switchnorm.errors import InputError

#: The extensions of pictures' names, in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

_MOST_LABELS = 1_000_000


class Paths:
    """Many paths below one folder, as two tensors: a million strings would be copied into every worker process.

    Args:
        folder: the folder, made absolute, because a worker may live in another one.
        names: the paths below it.
    """

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

    def name(self, index: int) -> str:
        """The path below the folder, as it was given."""
        start, end = self._ends[index : index + 2].tolist()
        return os.fsdecode(self._text[start:end].numpy().tobytes())


@dataclass(frozen=True)
class Listing:
    """The labelled pictures of a split.

    Args:
        source: the list file, or the folder of classes; what errors name.
        paths: of the pictures.
        labels: (N,) int64.
        names: what each label's folder is called, for labels that have a folder of their own.
        written: whether the labels are written in a list; otherwise they number the sorted folders.
    """

    source: Path
    paths: Paths
    labels: Tensor
    names: dict[int, str]
    written: bool

    def __len__(self) -> int:
        return len(self.labels)


def read_folders(folder: Path) -> Listing:
    """The pictures in a folder of classes, `folder/CLASS/**/*.jpg`; labels number the sorted names of the classes.

    Raises:
        InputError: no classes, or no pictures.
    """
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [os.path.relpath(path, folder) for path in pictures_below(folder / name)]
        names.extend(found)
        labels.extend([label] * len(found))
    if not names:
        what = "its class folders hold" if classes else "it has no class folders, so"
        raise InputError(f"{folder}: {what} no pictures ({' '.join(EXTENSIONS)})")
    return Listing(folder, Paths(folder, names), torch.tensor(labels), dict(enumerate(classes)), written=False)


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
    missing, folder = min(((missing_files(folder, names), folder) for folder in folders), key=lambda pair: len(pair[0]))
    if missing and (len(missing) == len(names) or not may_miss):
        advice = "" if len(missing) == len(names) else "; bring them, or set on_damaged to 'skip'"
        raise InputError(
            f"{file}: {len(missing)} of its {len(names)} pictures are missing, the first is "
            f"{folder / missing[0]}{advice}"
        )
    return Listing(file, Paths(folder, names), torch.tensor(labels), _folder_names(names, labels), written=True)


def pictures_below(folder: Path, extensions: tuple[str, ...] = EXTENSIONS) -> Iterator[str]:
    """The pictures at any depth of a folder, in sorted order: files whose names end so, in whatever letters."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(extensions) and not name.startswith("."):
                yield os.path.join(place, name)


def _parse(file: Path) -> tuple[list[str], list[int]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as a list of pictures: {error}") from error
    names: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, label = line.rsplit(maxsplit=1) if len(line.split()) > 1 else (line, "")
        if not (label.isascii() and label.removeprefix("-").isdigit()):
            raise InputError(f"{file}: line {number} must be a path and a label, 'n01440764/a.JPEG 0', got {line!r}")
        if not 0 <= int(label) < _MOST_LABELS:
            raise InputError(f"{file}: line {number} has label {label}; labels run from 0 to {_MOST_LABELS - 1}")
        names.append(name.strip())
        labels.append(int(label))
    if not names:
        raise InputError(f"{file} is empty; expected a path and a label in each line")
    return names, labels


def missing_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Which of the paths are no files below `folder`, by one look into each folder instead of one per picture."""
    there: dict[str, set[str]] = {}
    missing = []
    for name in names:
        parent, file = os.path.split(name)
        if parent not in there:
            there[parent] = _entries(os.path.join(folder, parent))
        if file not in there[parent]:
            missing.append(name)
    return missing


def _entries(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _folder_names(names: Sequence[str], labels: Sequence[int]) -> dict[int, str]:
    """The folder of each label's pictures, where every label has one of its own; otherwise nothing."""
    pairs = {(label, os.path.basename(os.path.dirname(name))) for name, label in zip(names, labels, strict=True)}
    known = dict(pairs)
    own = len(pairs) == len(known) == len(set(known.values()))
    return known if own and "" not in known.values() else {}
