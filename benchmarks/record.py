"""Results as files: numbers with the hardware and versions behind them."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from switchnorm.runs.provenance import hardware, versions

RESULTS = Path(__file__).parent / "results"


def path_of(suite: str, device: str) -> Path:
    """Where the record of a whole run goes; those of CPU and GPU lie side by side."""
    return RESULTS / (f"{suite}.json" if device == "cpu" else f"{suite}-{device}.json")


def write(
    path: Path, arguments: Sequence[str], rows: Sequence[dict[str, Any]], ratios: Sequence[dict[str, Any]]
) -> None:
    """Write a record, a measurement or ratio a line."""
    head = json.dumps({"command": command(arguments), **environment()}, indent=2)
    parts = [f'  "{name}": [\n{_lines(entries)}\n  ]' for name, entries in (("measurements", rows), ("ratios", ratios))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(",\n".join([head.removesuffix("\n}"), *parts]) + "\n}\n")


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
