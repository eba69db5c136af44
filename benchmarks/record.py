"""Results as files: numbers with the hardware and versions behind them."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.runs.provenance import hardware, versions

RESULTS = Path(__file__).parent / "results"


def path_of(suite: str, device: str) -> Path:
    """Where the record of a whole run goes; those of CPU and GPU lie side by side."""
    return RESULTS / (f"{suite}.json" if device == "cpu" else f"{suite}-{device}.json")


def head(arguments: Sequence[str]) -> dict[str, Any]:
    """What every record begins with: how it was made, and on what."""
    return {"command": command(arguments), **environment()}


def write(
    path: Path, facts: Mapping[str, Any], rows: Sequence[dict[str, Any]], ratios: Sequence[dict[str, Any]]
) -> None:
    """Write a record, a measurement or ratio a line, whole or not at all; `facts`, with those of `head`, come first."""
    begin = json.dumps(dict(facts), indent=2)
    parts = [f'  "{name}": [\n{_lines(entries)}\n  ]' for name, entries in (("measurements", rows), ("ratios", ratios))]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, ",\n".join([begin.removesuffix("\n}"), *parts]) + "\n}\n")


def read(path: Path) -> dict[str, Any]:
    """A record; raise `InputError` if the file is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is no record: {error}") from None
    return found


def environment() -> dict[str, Any]:
    """Date, hardware and versions; nothing that names the machine or its user."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return {"date": today.isoformat(), **hardware(), "versions": versions()}


def _lines(entries: Sequence[dict[str, Any]]) -> str:
    return ",\n".join(f"    {json.dumps(entry)}" for entry in entries)


def command(arguments: Sequence[str]) -> str:
    """The command as anybody may read it: paths that start at a root or a home become PATH."""
    shown = [re.sub(r"(^|=)[/~].*", r"\1PATH", argument) for argument in arguments]
    return " ".join(["python -m benchmarks", *shown])
