"""importance.csv: how much each layer relied on each statistic, after every epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from switchnorm.errors import InputError
from switchnorm.runs.tables import epoch_shift, number, table

COLUMNS = ("epoch", "layer", "moment", "statistic", "importance")

#: A row of the file.
Row = tuple[int, str, str, str, float]


class ImportanceRow(Protocol):
    """One layer's importance, from a live model or from a file."""

    @property
    def layer(self) -> str: ...  # noqa: D102 - the names say it all
    @property
    def statistics(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def mean(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def var(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def frozen(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class LayerWeights:
    """The importance of each statistic in one layer, for its mean and for its variance."""

    layer: str
    statistics: tuple[str, ...]
    mean: tuple[float, ...]
    var: tuple[float, ...]
    frozen: bool = False
    """Files hold numbers, not modules: only a live model can say that a layer is frozen."""


def importance_rows(epoch: int, layers: Iterable[ImportanceRow]) -> list[Row]:
    """The rows of an epoch: a number for each layer, moment and statistic, in the order of the layers."""
    return [
        (epoch, row.layer, moment, statistic, round(value, 6))
        for row in layers
        for moment, weights in (("mean", row.mean), ("var", row.var))
        for statistic, value in zip(row.statistics, weights, strict=True)
    ]


def read_importance(path: Path, start: int = 0) -> dict[int, list[LayerWeights]]:
    """The layers by epoch, from 1; no file, or an empty one, means a network that mixes nothing.

    Args:
        path: the file.
        start: as of `epoch_shift`.
    """
    if not path.exists():
        return {}
    epochs: dict[int, dict[str, dict[str, dict[str, float]]]] = {}
    shift: int | None = None
    for where, row in table(path, COLUMNS):
        shift = epoch_shift(row["epoch"], start) if shift is None else shift
        if row["moment"] not in ("mean", "var"):
            raise InputError(f"{where}: moment is {row['moment']!r}, expected 'mean' or 'var'")
        epoch, importance = (number(where, name, row[name]) for name in ("epoch", "importance"))
        if epoch is None or importance is None:
            raise InputError(f"{where}: expected a number for both epoch and importance")
        moments = epochs.setdefault(int(epoch) + shift, {}).setdefault(row["layer"], {"mean": {}, "var": {}})
        moments[row["moment"]][row["statistic"]] = importance
    return {epoch: [_layer(path, epoch, *item) for item in layers.items()] for epoch, layers in epochs.items()}


def _layer(path: Path, epoch: int, name: str, moments: Mapping[str, Mapping[str, float]]) -> LayerWeights:
    mean, var = moments["mean"], moments["var"]
    if tuple(mean) != tuple(var):
        raise InputError(f"{path}, epoch {epoch}: layer {name!r} must list the same statistics for mean and var")
    return LayerWeights(name, tuple(mean), tuple(mean.values()), tuple(var.values()))
