"""The table of scores: a row per group of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from switchnorm.report.common.numbers import percent
from switchnorm.report.common.table import Cell, Table
from switchnorm.report.results.result import Result
from switchnorm.runs.durations import duration


def results_table(rows: Sequence[Result], notes: Sequence[str] = ()) -> Table:
    """A row per group, all of one score. The best of each data set is strong; "vs BN" is there where a BN group is.

    What no run has measured has no column.

    Args:
        rows: the groups.
        notes: sentences below the table.
    """
    score = rows[0].score
    compared = any(row.difference is not None for row in rows)
    winners = _winners(rows)
    shown = [place for place in range(len(score.others)) if any(row.others[place] is not None for row in rows)]
    others = [f"{name[0].upper()}{name[1:]} %" for name, _ in (score.others[place] for place in shown)]
    outcome = ["Normalizer", f"{score.title} %", *["vs BN"] * compared, "Best %", *others, "Time"]
    settings = ["Samples per GPU", "Network", "Data", "Seeds", "Epochs"]
    return Table(
        f"Validation {score.name} after the last epoch, and of the best one",
        (*outcome, *settings),
        tuple(_result_cells(row, row.label in winners, compared, shown) for row in rows),
        settings=len(settings),
        notes=(*_stopped(rows), *notes),
    )


def _stopped(rows: Sequence[Result]) -> Iterator[str]:
    early = [
        f"{row.label}{f' ({row.stopped} of {row.seeds} runs)' if row.seeds > 1 else ''}" for row in rows if row.stopped
    ]
    if early:
        yield f"Stopped early, for their score no longer rose: {', '.join(early)}."


def _result_cells(row: Result, strong: bool, compared: bool, shown: Sequence[int]) -> tuple[Cell, ...]:
    low, high = row.epochs
    spread = "" if row.spread is None else f" ± {100 * row.spread:.2f}"
    difference = "" if row.difference is None else f"{100 * row.difference:+.2f}"
    return (
        Cell(row.label, strong),
        Cell(percent(row.value) + spread, strong),
        *[Cell(difference)] * compared,
        Cell(percent(row.best)),
        *(Cell(percent(row.others[place])) for place in shown),
        Cell(duration(row.seconds)),
        *map(Cell, (_plain(row.samples_per_gpu), _plain(row.network), _plain(row.data), str(row.seeds))),
        Cell(str(low) if low == high else f"{low} to {high}"),
    )


def _winners(rows: Sequence[Result]) -> set[str]:
    """The labels of the best rows of every data set, as good as the table shows them."""
    best: dict[str, str] = {}
    for row in sorted((row for row in rows if row.value is not None), key=lambda row: row.value or 0):
        best[str(row.data)] = percent(row.value)
    return {row.label for row in rows if row.value is not None and percent(row.value) == best[str(row.data)]}


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)
