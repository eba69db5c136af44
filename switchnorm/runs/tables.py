"""The tables of a run: CSV files with a row per epoch, or several, that grow while the run trains."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.runs.reading import read_text

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
    for name, text in checkpoint.get(TABLES, {}).items():
        if Path(name).name != name or not name.endswith(".csv") or not isinstance(text, str):
            raise InputError(f"the checkpoint of {folder} is damaged: {name!r} is no table of a run")
        path, content = folder / name, text.encode()
        found = path.read_bytes() if path.is_file() else b""
        if found != content:
            write_file(path, content)
        if not found.startswith(content):
            changed.append(name)
    return changed


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


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
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if rows[:1] not in ([], [list(columns)]):
        raise InputError(f"{path} is damaged; expected the columns {', '.join(columns)}")
    whole = [row for row in rows[1:] if len(row) == len(columns) and row[0].isdecimal()]
    shift = epoch_shift(whole[0][0], start) if whole else 0
    return [[str(int(epoch) + shift), *values] for epoch, *values in whole]


def table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each with its place for error messages, "FILE, line 3".

    Raises:
        InputError: the file is damaged, or does not name the columns.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path} is damaged: its first line must name the column {missing[0]!r}")
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            # DictReader files surplus values under None and fills missing ones with None.
            if None in row or None in row.values():
                raise InputError(f"{where}: expected {len(reader.fieldnames or ())} values, as in the first line")
            yield where, row
    except csv.Error as error:
        raise InputError(f"{path} is damaged: {error}") from error


def number(where: str, name: str, written: str) -> float | None:
    """A number as written in a CSV file; None where there is none, or it is not finite."""
    if not written.strip():
        return None
    try:
        value = float(written)
    except ValueError as error:
        raise InputError(f"{where}: {name} is {written!r}, expected a number") from error
    return value if math.isfinite(value) else None
