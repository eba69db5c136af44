"""The page's title and the line below it: what was found, and what was compared."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.numbers import counted
from switchnorm.report.results.result import Result
from switchnorm.runs.run import Run
from switchnorm.runs.score import Score


def headline(rows: Sequence[Result]) -> str:
    """The finding, for each score: the widest lead over BN in a fair comparison, or else the best value."""
    scores = list(dict.fromkeys(row.score for row in rows))
    # An accuracy needs no name, unless another score stands beside it.
    named = len(scores) > 1 or scores[0].name != "accuracy"
    return " ".join(_finding([row for row in rows if row.score == score], score, named) for score in scores)


def _finding(rows: Sequence[Result], score: Score, named: bool) -> str:
    measured = [row for row in rows if row.value is not None]
    if not measured and any(
        trial.pending or (trial.run and trial.run.diverged) for row in rows for trial in row.trials
    ):
        return f"No run with a validation {score.name} has come to its end."
    if not measured:
        return f"No validation {score.name} has been measured."
    leader = max(measured, key=_lead)
    if _lead(leader) <= 0:
        leader = max(measured, key=_value)
    rivals = [row for row in measured if row.setting == leader.setting]
    said = f"{100 * _value(leader):.1f} %{f' {score.name}' if named else ''}"
    return f"{_name(leader, rivals)} reaches {said}{_standing(leader, rivals)}{_place(leader)}."


def _name(row: Result, rivals: Sequence[Result]) -> str:
    """The name, or the whole label where rivals in the same setting share it."""
    return row.name if sum(rival.name == row.name for rival in rivals) == 1 else row.label


def _value(row: Result) -> float:
    return row.value or 0.0


def _lead(row: Result) -> float:
    return row.difference or 0.0


def _standing(leader: Result, rivals: Sequence[Result]) -> str:
    """How the leader compares: with BN where it is ahead of it, else with the others in its setting."""
    if leader.baseline is not None and _lead(leader) > 0:
        doubt = max(leader.spread or 0.0, leader.baseline.spread or 0.0)
        aside = " (within the spread of the seeds)" if _lead(leader) <= doubt else ""
        lead = f", {100 * _lead(leader):.1f} points above {_name(leader.baseline, rivals)}{aside}"
        return lead + _unequal(leader.epochs, leader.baseline.epochs)
    return f", the best of {len(rivals)} compared" if len(rivals) > 1 and leader is max(rivals, key=_value) else ""


def _unequal(mine: tuple[int, int], others: tuple[int, int]) -> str:
    return "" if mine == others else f" ({_span(mine, 'epoch')} against {_span(others, 'epoch')})"


def _place(leader: Result) -> str:
    count = leader.samples_per_gpu
    return "" if count is None else f", at {counted(count, 'sample')} per GPU"


def comparison(rows: Sequence[Result], runs: Sequence[Run]) -> str:
    """What was compared: "4 normalizers with 3 seeds each: resnet20 on cifar10, 30 epochs."."""
    norms = len({row.norm for row in rows})
    what = (
        counted(norms, "normalizer")
        if norms == len(rows)
        else f"{counted(norms, 'normalizer')} in {len(rows)} settings"
    )
    seeds = _span([row.seeds for row in rows], "seed")
    where = " and ".join(dict.fromkeys(f"{row.network} on {row.data}" for row in rows))
    epochs = _span([epoch for row in rows for epoch in row.epochs], "epoch")
    text = f"{what} with {seeds}{' each' if len(rows) > 1 else ''}: {where}, {epochs}."
    diverged = sum(run.diverged is not None for run in runs)
    going = sum(not run.finished and run.diverged is None for run in runs)
    text += f" {counted(diverged, 'run')} diverged." if diverged else ""
    return text + (f" {counted(going, 'run')} had not finished." if going else "")


def _span(numbers: Sequence[int], noun: str) -> str:
    low, high = min(numbers), max(numbers)
    return counted(low, noun) if low == high else f"{low} to {high} {noun}s"
