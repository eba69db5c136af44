"""The table of scores: a row per group of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from switchnorm.report.common.differences import differences
from switchnorm.report.common.missing import missing
from switchnorm.report.common.numbers import percent
from switchnorm.report.common.table import Cell, Table
from switchnorm.report.results.result import Result
from switchnorm.runs.durations import duration

# The settings that columns tell, under the names of settings.
_COLUMNS = ("model.name", "train.samples_per_gpu", "train.epochs")


def results_table(rows: Sequence[Result], notes: Sequence[str] = ()) -> Table:
    """A row per group, all of one score. The best of each test data is strong; "vs BN" is there where a BN group is.

    What no run has measured has no column. Below it stands what else differs, and which trainings do not count.

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
        notes=(*_differences(rows), *_stopped(rows), *_left_out(rows), *notes),
    )


def _differences(rows: Sequence[Result]) -> Iterator[str]:
    """What differs between the rows on the same test data, besides what the columns tell."""
    data = dict.fromkeys(row.data for row in rows)
    for name in data:
        alike = [(row.label, row.settings) for row in rows if row.data == name and row.value is not None]
        yield from (f"On {name}: {said}" if len(data) > 1 else said for said in differences(alike, _COLUMNS))


def _left_out(rows: Sequence[Result]) -> Iterator[str]:
    """Which runs do not count, and why."""
    for row in rows:
        yield from row.again
    trials = [(row, trial) for row in rows for trial in row.trials]
    failed = [(f"{row.label}, seed {trial.seed}", trial.reason) for row, trial in trials if trial.failed]
    yield from missing(failed, sum(trial.pending for _, trial in trials))


def _stopped(rows: Sequence[Result]) -> Iterator[str]:
    early = [
        f"{row.label}{f' ({row.stopped} of {row.counted} runs)' if row.counted > 1 else ''}"
        for row in rows
        if row.stopped
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
        *map(Cell, (_plain(row.samples_per_gpu), _plain(row.network), row.data, _seeds(row))),
        Cell(str(low) if low == high else f"{low} to {high}"),
    )


def _winners(rows: Sequence[Result]) -> set[str]:
    """The labels of the best rows of every test data, as good as the table shows them."""
    best: dict[str, str] = {}
    for row in sorted((row for row in rows if row.value is not None), key=lambda row: row.value or 0):
        best[row.data] = percent(row.value)
    return {row.label for row in rows if row.value is not None and percent(row.value) == best[row.data]}


def _seeds(row: Result) -> str:
    return str(row.seeds) if row.counted == row.seeds else f"{row.counted} of {row.seeds}"


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)
