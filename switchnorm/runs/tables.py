"""The tables of a run: CSV files with a row per epoch, or several, that grow while the run trains."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.runs.reading import read_text

# What spreadsheets take for a formula, and that with the apostrophes that `csv_text` puts before it.
_FORMULA, _QUOTED = re.compile(r"'*[=+\-@\t]"), re.compile(r"'+[=+\-@\t]")
_TABLE = re.compile(r"[a-z_]{1,40}\.csv")
_EPOCH = re.compile(r"[0-9]{1,9}")
#: Where checkpoints hold the tables: {name of the file: content}.
TABLES = "tables"


class EpochTable:
    """A CSV file with rows by epoch, from which the epochs that a resumed run repeats are dropped.

    Args:
        path: the file; the first column is "epoch".
        columns: all columns.
        done: epochs that are finished; rows of later ones, and a row that a kill cut off, are dropped from an existing
            file.
        start: epochs that counted as done when the run began, `train.start_epoch`.
    """

    def __init__(self, path: Path, columns: Sequence[str], done: int, start: int) -> None:
        self.path = path
        rows = read_rows(path, columns, start) if path.is_file() else []
        self.text = csv_text([columns, *(row for row in rows if int(row[0]) <= done)])
        write_file(path, self.text)

    def append(self, rows: Sequence[Sequence[object]]) -> None:
        """Add rows at the end."""
        self.text += csv_text(rows)
        write_file(self.path, self.text)

    def keep(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint hold the table as it is now, for `restore_tables`."""
        checkpoint.setdefault(TABLES, {})[self.path.name] = self.text


def restore_tables(folder: Path, checkpoint: Mapping[str, Any]) -> list[str]:
    """Let the tables of a run be what they were when a checkpoint was written.

    Args:
        folder: of the run.
        checkpoint: which the run goes on from; those of earlier versions hold no tables.

    Returns:
        The names of tables that had lost or changed rows; later rows are dropped without a word.

    Raises:
        InputError: the entry of the checkpoint is none of a training's.
        WriteError: a table cannot be written.
    """
    changed = []
    tables = checkpoint.get(TABLES, {})
    if not isinstance(tables, dict):
        raise InputError(f"the checkpoint of {folder} is damaged: expected tables by name")
    for name, text in tables.items():
        if not isinstance(name, str) or not _TABLE.fullmatch(name) or not _is_utf8(text):
            raise InputError(f"the checkpoint of {folder} is damaged: {name!r:.80} is no table of a run")
        path, content = folder / name, text.encode()
        found = path.read_bytes() if path.is_file() else b""
        if found != content:
            write_file(path, content)
        if not found.startswith(content):
            changed.append(name)
    return changed


def _is_utf8(text: Any) -> bool:
    try:
        return isinstance(text, str) and text.encode() is not None
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV, of which spreadsheets run nothing; `csv_rows` reads them as they were."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_quoted(cell) for cell in row] for row in rows])
    return text.getvalue()


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, each with the number of its (last) line.

    Raises:
        InputError: the file is missing or damaged.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        for row in reader:
            yield reader.line_num, [cell[1:] if _QUOTED.match(cell) else cell for cell in row]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: the file is damaged: {error}") from error


def _quoted(cell: object) -> object:
    """A cell as spreadsheets show it: what begins like a formula, and is no number, has an apostrophe before it."""
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # as text files are read
    if not _FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def epoch_shift(first: str, start: int) -> int:
    """What to add to the epochs of a table, so that they count from 1.

    Tables of earlier versions count from 0: the first epoch there is the number of those before it.

    Args:
        first: the first epoch, as it is written.
        start: epochs that counted as done when the run began, `train.start_epoch`.
    """
    return int(first.strip() == str(start))


def read_rows(path: Path, columns: Sequence[str], start: int) -> list[list[str]]:
    """The whole rows of a CSV file under a header; a row that a kill cut off is none.

    Args:
        path: the file; its first column is "epoch".
        columns: all columns.
        start: as of `epoch_shift`.

    Returns:
        Rows whose epochs count from 1.

    Raises:
        InputError: the header has other columns.
    """
    rows = [row for _, row in csv_rows(path)]
    if rows[:1] not in ([], [list(columns)]):
        raise InputError(f"{path} is damaged; expected the columns {', '.join(columns)}")
    whole = [row for row in rows[1:] if len(row) == len(columns) and _EPOCH.fullmatch(row[0])]
    shift = epoch_shift(whole[0][0], start) if whole else 0
    return [[str(int(epoch) + shift), *values] for epoch, *values in whole]


def table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each with its place for error messages, "FILE, line 3".

    Raises:
        InputError: the file is damaged, or does not name the columns.
    """
    rows = csv_rows(path)
    _, names = next(rows, (1, []))
    wrong = [name for name in columns if name not in names] or [name for name in names if names.count(name) > 1]
    if wrong:
        raise InputError(f"{path} is damaged: its first line must name the column {wrong[0]!r}, once")
    for line, row in rows:
        where = f"{path}, line {line}"
        if row and len(row) != len(names):
            raise InputError(f"{where}: expected {len(names)} values, as in the first line")
        if row:
            yield where, dict(zip(names, row, strict=True))


def epoch_of(where: str, written: str) -> int:
    """The number of an epoch, as written in a CSV file."""
    if not _EPOCH.fullmatch(written.strip()):
        raise InputError(f"{where}: epoch is {written!r:.80}, expected a whole number")
    return int(written)


def number(where: str, name: str, written: str) -> float | None:
    """A number as written in a CSV file; None where there is none, or it is not finite."""
    if not written.strip():
        return None
    try:
        value = float(written)
    except ValueError as error:
        raise InputError(f"{where}: {name} is {written!r:.80}, expected a number") from error
    return value if math.isfinite(value) else None
