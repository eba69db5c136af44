"""The table of importance: a row per layer."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.table import Cell, Table
from switchnorm.report.importance.mixture import MOMENTS, all_statistics, state, weights
from switchnorm.runs.importance import ImportanceRow


def importance_table(layers: Sequence[ImportanceRow], caption: str = "Importance of each statistic") -> Table:
    """A row per layer: the weight of each statistic in the mean and in the variance, the largest of each strong."""
    statistics = all_statistics(layers)
    titles = [f"{title} {statistic}" for title in MOMENTS.values() for statistic in statistics]
    rows = []
    for layer in layers:
        cells = [cell for moment in MOMENTS for cell in _weight_cells(layer, moment, statistics)]
        rows.append((Cell(layer.layer), *cells, Cell(state(layer))))
    return Table(caption, ("Layer", *titles, "State"), tuple(rows))


def _weight_cells(layer: ImportanceRow, moment: str, statistics: Sequence[str]) -> list[Cell]:
    mine = weights(layer, moment)
    largest = max(mine, key=mine.__getitem__)
    return [
        Cell(f"{100 * mine[each]:.0f} %", strong=each == largest, share=mine[each]) if each in mine else Cell("")
        for each in statistics
    ]
