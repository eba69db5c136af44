"""The table of scores by geometry in words: for the terminal, the page and Markdown alike."""

from __future__ import annotations

from collections.abc import Iterator

from switchnorm.report.common.missing import missing
from switchnorm.report.common.numbers import counted
from switchnorm.report.common.table import Cell, Table
from switchnorm.report.geometry.grid import Grid, GridCell
from switchnorm.runs.geometries import Geometry

_REDUCED, _INCOMPLETE = "†", "‡"


def grid_table(grid: Grid, differences: bool = True) -> Table:
    """The score in %, mean ± spread over seeds, the best of each column strong; then the differences to BN and to GN.

    Args:
        grid: the table's numbers.
        differences: whether the blocks of differences, in points, follow.
    """
    rows = [(Cell(row), *(_cell(grid, row, column) for column in grid.columns)) for row in grid.rows]
    blocks = []
    for baseline in grid.baselines if differences and len(grid.rows) > 1 else ():
        blocks.append(len(rows))
        rows += [
            (Cell(f"{row} vs {baseline}"), *(_difference(grid, row, column, baseline) for column in grid.columns))
            for row in grid.rows
            if row != baseline
        ]
    titles = ("(GPUs, samples)", *(column.title for column in grid.columns))
    return Table(f"{grid.score.title} % of {_setting(grid)}", titles, tuple(rows), 0, tuple(blocks), tuple(notes(grid)))


def _setting(grid: Grid) -> str:
    seeds = {trial.seed for cell in grid.cells.values() for trial in cell.trials}
    epochs = {run.settings.get("train.epochs") for run in grid.runs}
    said = [f"{grid.network} on {grid.data}" if grid.network else "all trainings"]
    if len(epochs) == 1 and (epoch := epochs.pop()) is not None:
        said.append(counted(epoch, "epoch"))
    said.append(counted(len(seeds), "seed"))
    return ", ".join(said)


def _cell(grid: Grid, row: str, column: Geometry) -> Cell:
    cell = grid.cells.get((row, column))
    if cell is None:
        return Cell("–")
    if cell.mean is None:
        return Cell("failed" if cell.failed else "…")
    text = _percent(cell.mean) + ("" if cell.spread is None else f" ± {_percent(cell.spread)}")
    marks = _REDUCED * _is_reduced(cell) + _INCOMPLETE * bool(cell.failed or cell.pending)
    return Cell(text + (f" {marks}" if marks else ""), strong=_percent(cell.mean) == _percent(grid.best(column) or 0))


def _difference(grid: Grid, row: str, column: Geometry, baseline: str) -> Cell:
    difference = grid.difference(row, column, baseline)
    return Cell("–" if difference is None else f"{100 * difference:+.1f}")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _is_reduced(cell: GridCell) -> bool:
    return bool(cell.statistics) and "batch" not in cell.statistics


def notes(grid: Grid) -> Iterator[str]:
    """What the marks in the table mean, and what is missing from it for which reason."""
    cells = grid.cells.values()
    if any(cell.spread is not None for cell in cells):
        yield "± is the sample standard deviation over seeds."
    if grid.baselines and len(grid.rows) > 1:
        yield "Differences are in points."
    reduced = sorted({cell.statistics for cell in cells if cell.mean is not None and _is_reduced(cell)})
    if reduced:
        yield f"{_REDUCED} {' or '.join(' and '.join(each) for each in reduced)} statistics only, no batch statistics."
    if any(cell.mean is not None and (cell.failed or cell.pending) for cell in cells):
        yield f"{_INCOMPLETE} not every seed counts."
    yield from grid.remarks
    failed = [
        (f"{row} {column.title}, seed {trial.seed}", trial.reason)
        for (row, column), cell in grid.cells.items()
        for trial in cell.failed
    ]
    yield from missing(failed, sum(cell.pending for cell in cells))
