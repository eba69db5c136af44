"""What the report says in tables, as data: the terminal and the page only differ in how they draw it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from switchnorm.report.groups import Group, baseline
from switchnorm.runs.durations import duration
from switchnorm.runs.importance import ImportanceRow
from switchnorm.runs.score import Score

_ONE_HOT = 1 - 1e-6
MOMENTS = {"mean": "mean", "var": "variance"}


@dataclass(frozen=True)
class Cell:
    """A text, whether it stands out, the share in [0, 1] that a bar shows, and the colour of what it names."""

    text: str
    strong: bool = False
    share: float | None = None
    colour: str | None = None


@dataclass(frozen=True)
class Table:
    """A caption, column titles and rows of cells; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    settings: int = 0
    """So many columns at the end say under which conditions the row came about."""
    blocks: tuple[int, ...] = ()
    """The rows before which a new block begins."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""


@dataclass(frozen=True)
class Result:
    """The outcome of a group. Scores are fractions, means over seeds."""

    label: str
    norm: str
    data: Any
    network: Any
    samples_per_gpu: Any
    seeds: int
    epochs: tuple[int, int]
    """The least and the most epochs that a run of the group finished."""
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
    baseline: Result | None = None
    """The BN group that this one is fairly compared with; None for that group itself."""

    @property
    def setting(self) -> tuple[str, str, str, str]:
        """What a comparison holds fixed."""
        return self.score.task, str(self.data), str(self.network), str(self.samples_per_gpu)

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
    curves = _curves(group, group.score.column)
    final = _last(curves)
    epochs = [len(run.metrics) for run in group.runs]
    seconds = [
        run.provenance["seconds"] for run in group.runs if isinstance(run.provenance.get("seconds"), int | float)
    ]
    return Result(
        label=group.label,
        norm=group.norm,
        data=group.settings.get("data.name"),
        network=group.settings.get("model.name"),
        samples_per_gpu=group.settings.get("train.samples_per_gpu"),
        seeds=len(group.runs),
        epochs=(min(epochs), max(epochs)),
        score=group.score,
        value=_mean(final),
        spread=stdev(final) if len(final) > 1 else None,
        best=_mean([max(curve) for curve in curves]),
        others=tuple(_mean(_last(_curves(group, column))) for _, column in group.score.others),
        seconds=_mean(seconds),
    )


def _curves(group: Group, column: str) -> list[list[float]]:
    """A metric over epochs, for each run that has measured it."""
    curves = (list(run.measured(column).values()) for run in group.runs)
    return [curve for curve in curves if curve]


def _last(curves: Sequence[Sequence[float]]) -> list[float]:
    return [curve[-1] for curve in curves]


def results_table(rows: Sequence[Result]) -> Table:
    """A row per group, all of one score. The best of each data set is strong; "vs BN" is there where a BN group is."""
    score = rows[0].score
    compared = any(row.difference is not None for row in rows)
    winners = _winners(rows)
    others = [f"{name[0].upper()}{name[1:]} %" for name, _ in score.others]
    outcome = ["Normalizer", f"{score.title} %", *["vs BN"] * compared, "Best %", *others, "Time"]
    settings = ["Samples per GPU", "Network", "Data", "Seeds", "Epochs"]
    return Table(
        f"Validation {score.name} after the last epoch, and of the best one",
        (*outcome, *settings),
        tuple(_result_cells(row, row.label in winners, compared) for row in rows),
        settings=len(settings),
    )


def _result_cells(row: Result, strong: bool, compared: bool) -> tuple[Cell, ...]:
    low, high = row.epochs
    spread = "" if row.spread is None else f" ± {100 * row.spread:.2f}"
    difference = "" if row.difference is None else f"{100 * row.difference:+.2f}"
    return (
        Cell(row.label, strong),
        Cell(percent(row.value) + spread, strong),
        *[Cell(difference)] * compared,
        Cell(percent(row.best)),
        *(Cell(percent(other)) for other in row.others),
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


def importance_table(layers: Sequence[ImportanceRow], caption: str = "Importance of each statistic") -> Table:
    """A row per layer: the weight of each statistic in the mean and in the variance, the largest of each strong."""
    statistics = all_statistics(layers)
    titles = [f"{title} {statistic}" for title in MOMENTS.values() for statistic in statistics]
    rows = []
    for layer in layers:
        cells = [cell for moment in MOMENTS for cell in _weight_cells(layer, moment, statistics)]
        rows.append((Cell(layer.layer), *cells, Cell(state(layer))))
    return Table(caption, ("Layer", *titles, "State"), tuple(rows))


def all_statistics(layers: Iterable[ImportanceRow]) -> list[str]:
    """Every statistic that some layer mixes, in the order of first appearance."""
    return list(dict.fromkeys(statistic for layer in layers for statistic in layer.statistics))


def weights(layer: ImportanceRow, moment: str) -> dict[str, float]:
    """The layer's weights for "mean" or "var", by statistic."""
    return dict(zip(layer.statistics, getattr(layer, moment), strict=True))


def state(layer: ImportanceRow) -> str:
    """In a word, how settled a layer is: frozen, one-hot in both or in one moment, or nothing while it mixes."""
    hard = [MOMENTS[moment] for moment in MOMENTS if max(getattr(layer, moment)) >= _ONE_HOT]
    if layer.frozen:
        return "frozen"
    return "one-hot" if len(hard) == len(MOMENTS) else "".join(f"{moment} one-hot" for moment in hard)


def _weight_cells(layer: ImportanceRow, moment: str, statistics: Sequence[str]) -> list[Cell]:
    mine = weights(layer, moment)
    largest = max(mine, key=mine.__getitem__)
    return [
        Cell(f"{mine[each]:.2f}", strong=each == largest, share=mine[each]) if each in mine else Cell("")
        for each in statistics
    ]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def percent(fraction: float | None) -> str:
    """A fraction for readers, without the sign: "54.21"."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)
