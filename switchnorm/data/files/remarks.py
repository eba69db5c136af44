"""What is unusual about single files, gathered so that it is said once for many."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Remark(NamedTuple):
    """Something that a reader of one file noticed and went on with.

    Args:
        what: a predicate for any number of files: "have transparent pixels, whose colours are taken as they are".
        file: the file, with what is particular about it.
    """

    what: str
    file: str


#: Where remarks are gathered now; None warns of each.
_gathered: list[Remark] | None = None


def remark(what: str, file: str) -> None:
    """Note something about a file: for whoever gathers, or else as a warning."""
    if _gathered is None:
        warnings.warn(f"pictures {what}: {file}", stacklevel=2)
    else:
        _gathered.append(Remark(what, file))


@contextmanager
def gathered() -> Iterator[list[Remark]]:
    """Gather the remarks that are made inside."""
    global _gathered
    before, _gathered = _gathered, []
    try:
        yield _gathered
    finally:
        _gathered = before


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

    def add(self, remarks: list[Remark]) -> None:
        """Keep them; one that is known already counts once."""
        for what, file in remarks:
            files = self._known.setdefault(what, {})
            if file not in files:
                files[file] = None
                self._new.add(what)

    def say(self) -> None:
        """Warn, in a line for each kind, of what has not been said."""
        for what in [what for what in self._known if what in self._new]:
            files = self._known[what]
            warnings.warn(
                f"{len(files)} of {self._total} {self._files} {what}; the first is {next(iter(files))}", stacklevel=2
            )
        self._new.clear()
