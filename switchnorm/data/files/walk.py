"""The files below a folder: those that are wanted, and an account of those that are not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from switchnorm.errors import InputError
from switchnorm.text import canonical

#: The extensions of pictures' names, in lower case.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    *(".jfif", ".gif", ".avif", ".jp2", ".pbm", ".pnm"),
)

#: Folders and files that systems and tools put beside pictures, in lower case; besides all that begin with a dot.
_FOLDERS_OF_SYSTEMS = {
    "@eadir",
    "__macosx",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
    "__pycache__",
}
_FILES_OF_SYSTEMS = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class LeftOut:
    """What was found and not taken, for one reason.

    Args:
        reason: what they are, "files of type .xml".
        count: how many there are.
        first: the path of the first one.
    """

    reason: str
    count: int
    first: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.count} ({self.first})"


class Found(NamedTuple):
    """The files below a folder.

    Args:
        paths: of the wanted ones, in the sorted order of their folders.
        left_out: the others, by reason.
    """

    paths: list[str]
    left_out: tuple[LeftOut, ...]


class Account:
    """Counts what is left out, by reason."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, path: str, count: int = 1) -> None:
        """Count what lies at `path`."""
        before, first = self._found.get(reason, (0, path))
        self._found[reason] = before + count, first

    def extend(self, others: Iterable[LeftOut]) -> None:
        """Count what was counted elsewhere."""
        for each in others:
            self.add(each.reason, each.first, each.count)

    def total(self) -> tuple[LeftOut, ...]:
        """What was counted, in the order in which the reasons came up."""
        return tuple(LeftOut(reason, count, first) for reason, (count, first) in self._found.items())


def told(split: str, left_out: Iterable[LeftOut]) -> str:
    """What of a split was left out, as a sentence; "" for nothing."""
    parts = "; ".join(map(str, left_out))
    return f"{split} leaves out {parts}" if parts else ""


def no_pictures(left_out: Iterable[LeftOut], ending: str = "") -> str:
    """That there are none, after "it holds": of which types they would be, and what lies there instead.

    Args:
        left_out: what was found.
        ending: of their names, as in "*_image".
    """
    instead = told("it", left_out)
    return f"no pictures{f' {ending}' if ending else ''} ({' '.join(EXTENSIONS)})" + (instead and f"; {instead}")


def find_files(folder: str | Path, extensions: tuple[str, ...]) -> Found:
    """The files at any depth of a folder whose names end so, in whatever letters.

    Left out, and counted: hidden files of these types and hidden folders, links that lead nowhere, back to a folder
    they lie in or to a folder that was taken already, whatever is no file, such as a pipe, folders that cannot be read,
    and files of other types.

    Args:
        folder: where to look; links are followed.
        extensions: in lower case.
    """
    account = Account()
    return Found(list(_walk(str(folder), extensions, account, set())), account.total())


def folders_in(folder: Path) -> tuple[list[str], Account]:
    """The names of the folders in a folder, in sorted order, and an account of the hidden ones and of links back.

    Raises:
        InputError: the folder cannot be read, or two names differ only in how é is written.
    """
    account = Account()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: canonical(entry.name))
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read: {error.strerror}") from error
    names = [entry.name for entry in entries if _is_folder(entry) and _is_entered(entry, account)]
    for name, other in itertools.pairwise(names):
        if canonical(name) == canonical(other):
            raise InputError(f"{folder} holds two folders that are both called {canonical(name)!r}; rename one")
    return names, account


def files_in(folder: Path, extensions: tuple[str, ...], account: Account) -> list[str]:
    """The wanted files in a folder itself, in sorted order; the others are counted as by `find_files`."""
    entries = (entry for entry in os.scandir(folder) if not _is_folder(entry))
    return sorted(entry.path for entry in entries if _is_wanted(entry, extensions, account))


def _walk(folder: str, extensions: tuple[str, ...], account: Account, seen: set[str]) -> Iterator[str]:
    seen.add(os.path.realpath(folder))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        account.add(f"folders that cannot be read: {error.strerror}", folder)
        return
    folders = []
    for entry in entries:
        if _is_folder(entry):
            folders.append(entry)
        elif _is_wanted(entry, extensions, account):
            yield entry.path
    for entry in folders:
        if not _is_entered(entry, account):
            continue
        if os.path.realpath(entry.path) in seen:
            account.add("links to a folder that is taken already", entry.path)
        else:
            yield from _walk(entry.path, extensions, account, seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_entered(entry: os.DirEntry[str], account: Account) -> bool:
    """Whether a folder is looked into; counts it otherwise."""
    reason = None
    if entry.name.startswith(".") or entry.name.lower() in _FOLDERS_OF_SYSTEMS:
        reason = "hidden folders"
    elif entry.is_symlink():
        target, place = os.path.realpath(entry.path), os.path.realpath(os.path.dirname(entry.path))
        if os.path.commonpath([target, place]) == target:
            reason = "links to a folder that they lie in"
    if reason is not None:
        account.add(reason, entry.path)
    return reason is None


def _is_wanted(entry: os.DirEntry[str], extensions: tuple[str, ...], account: Account) -> bool:
    """Whether a file is taken; counts it otherwise, unless a system has put it there."""
    name, reason = entry.name.lower(), None
    if name in _FILES_OF_SYSTEMS or (name.startswith(".") and not name.endswith(extensions)):
        return False
    if not name.endswith(extensions):
        reason = f"files of type {os.path.splitext(name)[1] or 'none'}"
    elif name.startswith("."):
        reason = "hidden files"
    elif not os.path.exists(entry.path):
        reason = "links that lead nowhere"
    elif not entry.is_file():  # to open a pipe would wait for ever
        reason = "entries that are no files"
    if reason is not None:
        account.add(reason, entry.path)
    return reason is None
