"""The table of scores by geometry as files to keep: table.md for reading, table.json for computing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from switchnorm.files import write_file
from switchnorm.report.common.groups import group_runs
from switchnorm.report.common.table import Table
from switchnorm.report.geometry.grid import Grid, grids
from switchnorm.report.geometry.grid_table import grid_table
from switchnorm.runs.durations import duration
from switchnorm.runs.geometries import Absent
from switchnorm.runs.run import Run, load_run


def write_tables(
    runs: Sequence[Path], folder: Path, *, absent: Sequence[Absent] = (), facts: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write table.md and table.json for the given run folders, each whole or not at all.

    Args:
        runs: folders of runs with at least one finished epoch.
        folder: where to; it exists.
        absent: trainings without a result, and why.
        facts: where the numbers come from, besides what the runs say themselves; plain values by name.

    Returns:
        The files.
    """
    loaded = [load_run(path) for path in runs]
    found = grids(group_runs(loaded), absent, least=1)
    facts = {**(facts or {}), **_origin(loaded)}
    files = {
        folder / "table.md": "\n".join([*map(_markdown, map(grid_table, found)), _facts(facts)]),
        folder / "table.json": json.dumps({**facts, "tables": [_numbers(grid) for grid in found]}, indent=2) + "\n",
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


def _numbers(grid: Grid) -> dict[str, Any]:
    return {
        "score": grid.score.name,
        "data": grid.data,
        "network": grid.network,
        "rows": [norm.name for norm in grid.rows.values()],
        "columns": [[column.gpus, column.samples] for column in grid.columns],
        "cells": list(_cells(grid)),
    }


def _key(grid: Grid) -> str:
    return grid.score.column.removeprefix("val_")


def _cells(grid: Grid) -> Iterator[dict[str, Any]]:
    for (row, column), cell in grid.cells.items():
        yield {
            "row": row,
            "norm": grid.rows[row].name,
            "gpus": column.gpus,
            "samples": column.samples,
            "statistics": list(cell.statistics) or None,
            "mean": cell.mean,
            "spread": cell.spread,
            "best_of_column": cell.mean is not None and cell.mean == grid.best(column),
            **{
                f"minus_{grid.rows[baseline].name}": grid.difference(row, column, baseline)
                for baseline in grid.baselines
                if baseline != row
            },
            "seeds": [
                {
                    "seed": trial.seed,
                    _key(grid): trial.value,
                    "seconds": None if trial.run is None else trial.run.provenance.get("seconds"),
                    "failed": trial.reason or None,
                }
                for trial in cell.trials
            ],
        }
