"""A folder of pictures that an evaluation writes in the place of an earlier one's."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.runs.tables import csv_rows, csv_text

#: The list of the pictures, whose first column is their names.
TABLE = "pictures.csv"


class ReplacedFolder:
    """Pictures and a table of them, written beside a folder and then put in its place.

    Args:
        path: the folder.
        columns: of the table; the first has the names of the pictures, which are NAME and the suffix.
        flag: that names the folder.
        suffix: of the pictures, ".png".

    Raises:
        InputError: a folder that holds something else than such pictures.
    """

    def __init__(self, path: Path, columns: Sequence[str], flag: str, suffix: str = ".png") -> None:
        self.path = path
        self.columns = tuple(columns)
        self.flag = flag
        self.suffix = suffix
        self._check_earlier()
        whole = path.resolve()  # "." has no name
        self.beside = whole.with_name(f".{whole.name}.part")

    def begin(self) -> None:
        """Make room beside, in the first process alone."""
        self.abandon()
        self.beside.mkdir()

    def abandon(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.beside, ignore_errors=True)

    def picture(self, name: str) -> Path:
        """Where to write the picture of that name."""
        return self.beside / f"{name}{self.suffix}"

    def finish(self, rows: Sequence[Sequence[object]]) -> None:
        """Write the table, and let the folder be what was written."""
        write_file(self.beside / TABLE, csv_text([self.columns, *rows]))
        if self.path.is_dir():
            shutil.rmtree(self.path.resolve())
        self.beside.rename(self.path.resolve())

    def _check_earlier(self) -> None:
        """Raise `InputError` where the folder holds something else than an earlier evaluation."""
        folder = self.path
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        table = folder / TABLE
        names, rows = [], list[list[str]]()
        if table.is_file():
            with contextlib.suppress(InputError):
                rows = [row for _, row in csv_rows(table)]
            names = [row[0] for row in rows[1:] if row] if rows and tuple(rows[0]) == self.columns else []
        own = [table, *(folder / f"{name}{self.suffix}" for name in names if Path(name).name == name)]
        if not names or any(file not in own for file in folder.iterdir()):
            raise InputError(f"{self.flag} {str(folder)!r} holds something else already; choose another folder")
