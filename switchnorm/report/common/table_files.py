"""Tables as files to keep: table.md for reading, table.json for computing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from switchnorm.files import write_file
from switchnorm.report.common.table import Table
from switchnorm.runs.durations import duration
from switchnorm.runs.run import Run


def write_tables(
    folder: Path,
    tables: Sequence[Table],
    numbers: Sequence[Mapping[str, Any]],
    *,
    runs: Sequence[Run],
    facts: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write table.md and table.json, each whole or not at all.

    Args:
        folder: where to; it exists.
        tables: as readers see them.
        numbers: the same, for computing.
        runs: whose numbers they are.
        facts: where the numbers come from, besides what the runs say themselves; plain values by name.

    Returns:
        The files.
    """
    facts = {**(facts or {}), **_origin(runs)}
    files = {
        folder / "table.md": "\n".join([*map(_markdown, tables), _facts(facts)]),
        folder / "table.json": json.dumps({**facts, "tables": list(numbers)}, indent=2) + "\n",
    }
    for path, text in files.items():
        write_file(path, text)
    return list(files)


def _origin(runs: Sequence[Run]) -> dict[str, Any]:
    """What the runs' records say about where they were made: each value once."""
    origin: dict[str, Any] = {}
    for key in ("versions", "hardware", "git"):
        values = [run.provenance.get(key) for run in runs]
        different = [value for place, value in enumerate(values) if value not in values[:place]]
        origin[key] = different[0] if len(different) == 1 else different
    origin["training_seconds"] = round(sum(float(run.provenance.get("seconds") or 0) for run in runs), 1)
    return origin


def _markdown(table: Table) -> str:
    lines = [f"**{table.caption}**", "", _row(table.columns), _row(["---", *["---:"] * (len(table.columns) - 1)])]
    for row in table.rows:
        lines.append(_row([f"**{cell.text}**" if cell.strong else cell.text for cell in row]))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _facts(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {_words(name, value)}" for name, value in facts.items()) + "\n"


def _words(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(key, inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_words(name, each) for each in value)
    if name == "command":
        return f"`{value}`"
    return duration(value) if name.endswith("seconds") and value is not None else str(value)
