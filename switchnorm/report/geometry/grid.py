"""The score by geometry: normalizers in rows, (GPUs, samples per GPU) in columns, as the papers' tables have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from switchnorm.config.schema import Config
from switchnorm.report.common.differences import compared_settings, differences
from switchnorm.report.common.groups import Group, display_norm, labels
from switchnorm.report.common.missing import trained_again
from switchnorm.report.common.trials import Trial
from switchnorm.runs.appearance import Appearance, registered
from switchnorm.runs.geometries import Absent, Geometry
from switchnorm.runs.run import Run
from switchnorm.runs.score import Score, score_of

_GEOMETRY_KEYS = ("train.batch_size", "train.samples_per_gpu")
_STATISTICS = "model.options.statistics"


@dataclass(frozen=True)
class GridCell:
    """The trainings of one normalizer at one geometry."""

    trials: tuple[Trial, ...]
    statistics: tuple[str, ...] = ()
    """The statistics that the layers mix, where the configuration names them."""

    @property
    def values(self) -> list[float]:
        """Of the seeds that came to their end."""
        return [trial.value for trial in self.trials if trial.value is not None]

    @property
    def mean(self) -> float | None:
        """Over seeds."""
        return fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds; None with fewer than two."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def pending(self) -> int:
        """So many of its trainings are under way or still to come."""
        return sum(trial.pending for trial in self.trials)

    @property
    def failed(self) -> list[Trial]:
        """Those that ended without a result."""
        return [trial for trial in self.trials if trial.failed]


@dataclass(frozen=True)
class Grid:
    """The table of one network on one data set."""

    score: Score
    """What its numbers are."""
    data: str
    network: str
    rows: dict[str, Appearance]
    """A normalizer by the row's label, in order."""
    columns: tuple[Geometry, ...]
    cells: dict[tuple[str, Geometry], GridCell]
    remarks: tuple[str, ...] = ()
    """Sentences on what differs between the cells besides, and on seeds that were trained again."""

    @property
    def baselines(self) -> list[str]:
        """The labels of the rows that others are compared with."""
        return [label for label, norm in self.rows.items() if norm.baseline and label == display_norm(norm.name)]

    def mean(self, row: str, column: Geometry) -> float | None:
        """The score of a cell, as a fraction."""
        cell = self.cells.get((row, column))
        return None if cell is None else cell.mean

    def difference(self, row: str, column: Geometry, baseline: str) -> float | None:
        """How far a cell is above the baseline's in its column, as a fraction."""
        mine, other = self.mean(row, column), self.mean(baseline, column)
        return None if mine is None or other is None else mine - other

    def best(self, column: Geometry) -> float | None:
        """The highest score of a column."""
        return max((mean for row in self.rows if (mean := self.mean(row, column)) is not None), default=None)

    @property
    def runs(self) -> list[Run]:
        """All runs that the table counts."""
        return [trial.run for cell in self.cells.values() for trial in cell.trials if trial.run is not None]


def geometry_of(group: Group) -> Geometry | None:
    """The geometry of a group's runs; None where the samples per GPU do not divide the batch."""
    batch, samples = (group.settings.get(key) for key in _GEOMETRY_KEYS)
    if not (isinstance(batch, int) and isinstance(samples, int) and samples > 0) or batch % samples:
        return None
    return Geometry(batch // samples, samples)


def setting_of(group: Group) -> tuple[str, str]:
    """The test data and the network, which a table holds fixed."""
    return group.data, str(group.settings.get("model.name"))


def grids(groups: Sequence[Group], absent: Iterable[Absent] = (), least: int = 2) -> list[Grid]:
    """A table for each network on each data set that the groups hold at two geometries or more.

    Args:
        groups: in the order in which the normalizers shall appear.
        absent: trainings without a run folder to read, which belong to the first group's setting.
        least: the fewest columns that make a table.
    """
    buckets: dict[tuple[Score, str, str], list[Group]] = {}
    for group in groups:
        if geometry_of(group) is not None:
            buckets.setdefault((group.score, *setting_of(group)), []).append(group)
    missing = list(absent)
    if missing and not buckets:
        buckets[score_of(Config.task), "", ""] = []
    first = next(iter(buckets), None)
    found = [_grid(setting, bucket, missing if setting == first else []) for setting, bucket in buckets.items()]
    return [grid for grid in found if len(grid.columns) >= least]


def _grid(setting: tuple[Score, str, str], groups: Sequence[Group], absent: Sequence[Absent]) -> Grid:
    trials: dict[tuple[str, Geometry], list[Trial]] = {}
    statistics: dict[tuple[str, Geometry], tuple[str, ...]] = {}
    rows: dict[str, Appearance] = {}
    named: list[tuple[str, Group]] = []
    for label, group in zip(_row_labels(groups), groups, strict=True):
        geometry = geometry_of(group)
        assert geometry is not None
        rows[label] = group.appearance
        named.append((f"{label} {geometry.title}", group))
        trials.setdefault((label, geometry), []).extend(group.trials)
        statistics[label, geometry] = tuple(group.settings.get(_STATISTICS) or ())
    for each in absent:
        label = display_norm(each.norm)
        rows.setdefault(label, registered(each.norm))
        place = (label, each.geometry)
        trials.setdefault(place, []).append(Trial(each.seed, None, each.reason, pending=not each.reason))
        statistics.setdefault(place, each.statistics)
    columns = tuple(sorted({geometry for _, geometry in trials}, key=lambda geometry: geometry.order))
    cells = {place: GridCell(tuple(every), statistics[place]) for place, every in trials.items()}
    ordered = sorted(rows, key=lambda row: rows[row].rank)
    settings = [(title, compared_settings(group)) for title, group in named]
    remarks = (*differences(settings, (*_GEOMETRY_KEYS, _STATISTICS)), *trained_again(named))
    return Grid(*setting, {row: rows[row] for row in ordered}, columns, cells, remarks)


def row_order(group: Group) -> tuple[bool, int]:
    """Sorts groups as the rows of a table."""
    return group.appearance.rank


def _row_labels(groups: Sequence[Group]) -> list[str]:
    """The group's name; where several at a geometry share one, with the settings that tell these apart."""
    places = [(group.name, geometry_of(group)) for group in groups]
    crowded = {name for name, geometry in places if places.count((name, geometry)) > 1}
    long = labels(groups, ignored=_GEOMETRY_KEYS)
    return [label if group.name in crowded else group.name for label, group in zip(long, groups, strict=True)]
