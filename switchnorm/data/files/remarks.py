"""What is unusual about single files, gathered so that it is said once for many."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class FileRemark(NamedTuple):
    """Something that a reader of one file noticed and went on with.

    Args:
        what: a predicate for any number of files: "have transparent pixels, whose colours are taken as they are".
        file: the file, with what is particular about it.
    """

    what: str
    file: str


class _Gathered(threading.local):
    """Where a thread gathers remarks now; None warns of each."""

    remarks: list[FileRemark] | None = None


_gathered = _Gathered()


def remark(what: str, file: str) -> None:
    """Note something about a file: for whoever gathers, or else as a warning."""
    if _gathered.remarks is None:
        warnings.warn(f"pictures {what}: {file}", stacklevel=2)
    else:
        _gathered.remarks.append(FileRemark(what, file))


@contextmanager
def gathered() -> Iterator[list[FileRemark]]:
    """Gather the remarks that are made inside."""
    before, found = _gathered.remarks, list[FileRemark]()
    _gathered.remarks = found
    try:
        yield found
    finally:
        _gathered.remarks = before


class Remarks:
    """Remarks about the files of a loader, said when there are new ones.

    Args:
        files: what they are, "training pictures".
        total: how many files there are.
    """

    def __init__(self, files: str, total: int) -> None:
        self._files = files
        self._total = total
        self._known: dict[str, dict[str, None]] = {}
        self._new: set[str] = set()

    def add(self, remarks: list[FileRemark]) -> None:
        """Keep them; one that is known already counts once."""
        for what, file in remarks:
            files = self._known.setdefault(what, {})
            if file not in files:
                files[file] = None
                self._new.add(what)

    def say(self) -> None:
        """Warn, in a line for each kind, of what has not been said."""
        for line in self.unsaid():
            warnings.warn(line, stacklevel=2)

    def unsaid(self) -> list[str]:
        """A line for each kind of what has not been said; with it, it has been."""
        new = {what: files for what, files in self._known.items() if what in self._new}
        self._new.clear()
        return [
            f"{len(files)} of {self._total} {self._files} {what}; the first is {next(iter(files))}"
            for what, files in new.items()
        ]
