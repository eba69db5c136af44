"""The outcome of each group of runs: its score over seeds, beside that of the BN group it may be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from switchnorm.report.common.differences import compared_settings
from switchnorm.report.common.groups import Group, baseline
from switchnorm.report.common.missing import trained_again
from switchnorm.report.common.trials import Trial
from switchnorm.runs.run import Run
from switchnorm.runs.score import Score


@dataclass(frozen=True)
class Result:
    """The outcome of a group. Scores are fractions, means over seeds."""

    label: str
    name: str
    norm: str
    data: str
    """What the test data is called: the same for two groups if and only if it is the same."""
    network: Any
    samples_per_gpu: Any
    trials: tuple[Trial, ...]
    """Of each seed what it counts for; all numbers are over those that count."""
    epochs: tuple[int, int]
    """The least and the most epochs that a run which counts finished; of all runs where none counts."""
    score: Score
    """What `value` is."""
    value: float | None
    """The validation's score after the last epoch."""
    spread: float | None
    """Its sample standard deviation over seeds; None with one seed."""
    best: float | None
    """The best score of any epoch."""
    others: tuple[float | None, ...]
    """The score's others, after the last epoch."""
    seconds: float | None
    stopped: int = 0
    """How many of the runs that count were ended before their last epoch, since their score no longer rose."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`compared_settings` of the group."""
    again: tuple[str, ...] = ()
    """A sentence for each run that counts for nothing, since its seed was trained before."""
    baseline: Result | None = None
    """The BN group that this one is fairly compared with; None for that group itself."""

    @property
    def seeds(self) -> int:
        """How many seeds were trained, whether they count or not."""
        return len(self.trials)

    @property
    def counted(self) -> int:
        """How many seeds count."""
        return sum(trial.value is not None for trial in self.trials)

    @property
    def setting(self) -> tuple[str, str, str, str]:
        """What a comparison holds fixed."""
        return self.score.task, self.data, str(self.network), str(self.samples_per_gpu)

    @property
    def difference(self) -> float | None:
        """How far the score is above the baseline's, as a fraction."""
        if self.value is None or self.baseline is None or self.baseline.value is None:
            return None
        return self.value - self.baseline.value


def results(groups: Sequence[Group]) -> list[Result]:
    """The outcome of every group, each beside its baseline."""
    plain = {group.label: _result(group) for group in groups}
    compared = []
    for group in groups:
        rival = baseline(group, groups)
        same = rival is None or rival.label == group.label
        compared.append(replace(plain[group.label], baseline=None if same or rival is None else plain[rival.label]))
    return compared


def _result(group: Group) -> Result:
    trials, runs = group.trials, group.counted
    curves = _curves(runs, group.score.column)
    final = _last(curves)
    epochs = [len(run.metrics) for run in runs or group.runs]
    seconds = [run.provenance["seconds"] for run in runs if isinstance(run.provenance.get("seconds"), int | float)]
    return Result(
        label=group.label,
        name=group.name,
        norm=group.norm,
        data=group.data,
        network=group.settings.get("model.name"),
        samples_per_gpu=group.settings.get("train.samples_per_gpu"),
        trials=trials,
        epochs=(min(epochs), max(epochs)),
        score=group.score,
        value=_mean(final),
        spread=stdev(final) if len(final) > 1 else None,
        best=_mean([max(curve) for curve in curves]),
        others=tuple(_mean(_last(_curves(runs, column))) for _, column in group.score.others),
        seconds=_mean(seconds),
        stopped=sum(run.stopped for run in runs),
        settings=compared_settings(group),
        again=tuple(trained_again([(group.label, group)])),
    )


def _curves(runs: Sequence[Run], column: str) -> list[list[float]]:
    """A metric over epochs, for each run that has measured it."""
    curves = (list(run.measured(column).values()) for run in runs)
    return [curve for curve in curves if curve]


def _last(curves: Sequence[Sequence[float]]) -> list[float]:
    return [curve[-1] for curve in curves]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
