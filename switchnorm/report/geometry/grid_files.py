"""The table of scores by geometry as files to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from switchnorm.report.common.groups import group_runs
from switchnorm.report.common.table_files import write_tables
from switchnorm.report.geometry.grid import Grid, grids
from switchnorm.report.geometry.grid_table import grid_table
from switchnorm.runs.geometries import Absent
from switchnorm.runs.run import load_runs


def write_grids(
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
    loaded = load_runs(runs)
    found = grids(group_runs(loaded), absent, least=1)
    return write_tables(folder, [*map(grid_table, found)], [*map(_numbers, found)], runs=loaded, facts=facts)


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
