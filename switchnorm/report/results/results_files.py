"""The table of scores as files to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from switchnorm.report.common.groups import Group, by_score, group_runs
from switchnorm.report.common.table_files import write_tables
from switchnorm.report.common.trials import Trial
from switchnorm.report.results.result import Result, results
from switchnorm.report.results.results_table import results_table
from switchnorm.runs.run import Run, load_runs
from switchnorm.runs.score import Score


def write_results(
    runs: Sequence[Path], folder: Path, *, notes: Sequence[str] = (), facts: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write table.md and table.json for the given run folders, each whole or not at all.

    Args:
        runs: folders of runs with at least one finished epoch.
        folder: where to; it exists.
        notes: sentences below the table.
        facts: where the numbers come from, besides what the runs say themselves; plain values by name.

    Returns:
        The files.
    """
    loaded = load_runs(runs)
    tables, numbers = [], []
    for score, groups in by_score(group_runs(loaded)).items():
        rows = results(groups)
        table = results_table(rows, notes)
        tables.append(table)
        row_numbers = [_row(group, row) for group, row in zip(groups, rows, strict=True)]
        numbers.append({"score": score.name, "rows": row_numbers, "notes": list(table.notes)})
    return write_tables(folder, tables, numbers, runs=loaded, facts=facts)


def _row(group: Group, row: Result) -> dict[str, Any]:
    """A group's numbers: fractions, with the sample standard deviation over seeds as `spread`."""
    return {
        "name": row.label,
        "norm": row.norm,
        "data": row.data,
        "network": row.network,
        "samples_per_gpu": row.samples_per_gpu,
        "mean": row.value,
        "spread": row.spread,
        "best": row.best,
        **{_key(column): value for (_, column), value in zip(row.score.others, row.others, strict=True)},
        "compared_with": None if row.baseline is None else row.baseline.label,
        "difference": row.difference,
        "seeds": [_seed(trial, run, row.score) for trial, run in zip(row.trials, group.runs, strict=True)],
    }


def _seed(trial: Trial, run: Run, score: Score) -> dict[str, Any]:
    """One seed's numbers; of one that does not count what there was, and the reason as `failed`, or `pending`."""
    curves = {column: list(run.measured(column).values()) for column in (score.column, *(c for _, c in score.others))}
    measured = {_key(column): curve[-1] if curve else None for column, curve in curves.items()}
    best = max(curves[score.column], default=None)
    took = {"best": best, "seconds": run.provenance.get("seconds")}
    return {"seed": run.seed, **measured, **took, "failed": trial.reason or None, "pending": trial.pending}


def _key(column: str) -> str:
    return column.removeprefix("val_")
