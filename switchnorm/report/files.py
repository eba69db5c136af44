"""Reading the files of a run folder, so that whatever is wrong with one is a line that names it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError


def table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each with the words that say where it stands.

    Raises:
        InputError: the file is damaged, or does not name the columns.
    """
    reader = csv.DictReader(io.StringIO(text(path), newline=""))
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


def record(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file that is meant to hold `what`."""
    try:
        found = json.loads(text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: expected {what} as JSON") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: expected a JSON object, got {type(found).__name__}")
    return found


def text(path: Path) -> str:
    """The whole of a text file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: a run folder holds config.yaml, run.json and metrics.csv") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
