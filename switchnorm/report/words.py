"""What the report says in sentences, computed from the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from switchnorm.report.groups import display_norm
from switchnorm.report.tables import MOMENTS, Result, all_statistics, state, weights
from switchnorm.runs.importance import LayerWeights
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
    if not measured:
        return f"No validation {score.name} has been measured."
    leader = max(measured, key=_lead)
    if _lead(leader) <= 0:
        leader = max(measured, key=_value)
    rivals = [row for row in measured if row.setting == leader.setting]
    said = f"{100 * _value(leader):.1f} %{f' {score.name}' if named else ''}"
    return f"{_name(leader, rivals)} reaches {said}{_standing(leader, rivals)}{_place(leader)}."


def _name(row: Result, rivals: Sequence[Result]) -> str:
    """The normalizer, or the whole label where rivals in the same setting share it."""
    return display_norm(row.norm) if sum(rival.norm == row.norm for rival in rivals) == 1 else row.label


def _value(row: Result) -> float:
    return row.value or 0.0


def _lead(row: Result) -> float:
    return row.difference or 0.0


def _standing(leader: Result, rivals: Sequence[Result]) -> str:
    """How the leader compares: with BN where it is ahead of it, else with the others in its setting."""
    if leader.baseline is not None and _lead(leader) > 0:
        doubt = max(leader.spread or 0.0, leader.baseline.spread or 0.0)
        aside = " (within the spread of the seeds)" if _lead(leader) <= doubt else ""
        return f", {100 * _lead(leader):.1f} points above {_name(leader.baseline, rivals)}{aside}"
    return f", the best of {len(rivals)} compared" if len(rivals) > 1 and leader is max(rivals, key=_value) else ""


def _place(leader: Result) -> str:
    count = leader.samples_per_gpu
    return "" if count is None else f", at {count} sample{'' if count == 1 else 's'} per GPU"


def comparison(rows: Sequence[Result], runs: Sequence[Run]) -> str:
    """What was compared: "4 normalizers with 3 seeds each: resnet20 on cifar10, 30 epochs."."""
    norms = len({row.norm for row in rows})
    what = (
        _count(norms, "normalizer") if norms == len(rows) else f"{_count(norms, 'normalizer')} in {len(rows)} settings"
    )
    seeds = _span([row.seeds for row in rows], "seed")
    where = " and ".join(dict.fromkeys(f"{row.network} on {row.data}" for row in rows))
    epochs = _span([epoch for row in rows for epoch in row.epochs], "epoch")
    text = f"{what} with {seeds}{' each' if len(rows) > 1 else ''}: {where}, {epochs}."
    going = sum(not run.finished for run in runs)
    return text + (f" {_count(going, 'run')} had not finished." if going else "")


def mixture(layers: Sequence[LayerWeights]) -> str:
    """The average over layers in words, for the reader in a hurry and for the one who cannot see the figure."""
    parts = [f"the {title} relies on {_shares(layers, moment)}" for moment, title in MOMENTS.items()]
    settled = sum(state(layer) == "one-hot" for layer in layers)
    of_all = f"{settled} of {_count(len(layers), 'layer')}"
    choice = f" {of_all} chose a single statistic for the mean and a single one for the variance." if settled else ""
    return f"On average over the layers, {'; '.join(parts)}.{choice}"


def _shares(layers: Sequence[LayerWeights], moment: str) -> str:
    means = {
        statistic: fmean(weights(layer, moment).get(statistic, 0.0) for layer in layers)
        for statistic in all_statistics(layers)
    }
    largest_first = sorted(means.items(), key=lambda item: item[1], reverse=True)
    return _join(f"{100 * mean:.0f}\u00a0% {statistic}" for statistic, mean in largest_first if mean >= 0.005)


def _join(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _span(numbers: Sequence[int], noun: str) -> str:
    low, high = min(numbers), max(numbers)
    return _count(low, noun) if low == high else f"{low} to {high} {noun}s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
