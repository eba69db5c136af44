"""The score against samples per GPU: a line per normalizer, as the papers draw it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go

from switchnorm.report.common.figures import Style, norm_styles, plain_figure, short, translucent
from switchnorm.report.geometry.grid import Grid
from switchnorm.runs.geometries import Geometry


def by_samples(grid: Grid) -> go.Figure | None:
    """A line per normalizer and number of GPUs over samples per GPU, doubling from tick to tick.

    The band is the mean ± the spread over seeds. The most frequent number of GPUs has full symbols, the others open
    ones and dotted lines. A trace's legendgroup is the place of its row in the grid.

    Returns:
        The figure, or None where no training has finished.
    """
    figure = plain_figure(go.Figure(), 380)
    for place, (row, style) in enumerate(zip(grid.rows, norm_styles(list(grid.rows.values())), strict=True)):
        for gpus, columns in _lines(grid, row):
            unusual = gpus != _usual(grid)
            if not unusual:
                _add_bands(figure, grid, row, columns, style, str(place))
            figure.add_trace(_line(grid, row, columns, style, str(place), unusual))
    figure.update_layout(hovermode="closest", margin={"l": 56, "r": 12, "t": 8, "b": 48})
    samples = sorted({column.samples for column in grid.columns})
    figure.update_xaxes(
        type="log",
        title={"text": "samples per GPU", "standoff": 8},
        tickvals=samples,
        ticktext=[str(each) for each in samples],
    )
    figure.update_yaxes(title={"text": f"{grid.score.name}, %", "standoff": 6}, nticks=8)
    return figure if figure.data else None


def unusual_gpus(grid: Grid) -> list[int]:
    """The numbers of GPUs whose lines have open symbols."""
    return sorted({column.gpus for column in grid.columns} - {_usual(grid)})


def _usual(grid: Grid) -> int:
    return Counter(column.gpus for column in grid.columns).most_common(1)[0][0]


def _lines(grid: Grid, row: str) -> list[tuple[int, list[Geometry]]]:
    """The measured columns of a row by number of GPUs, from few samples to many."""
    measured = [column for column in reversed(grid.columns) if grid.mean(row, column) is not None]
    return [(gpus, [c for c in measured if c.gpus == gpus]) for gpus in sorted({c.gpus for c in measured})]


def _line(grid: Grid, row: str, columns: Sequence[Geometry], style: Style, place: str, unusual: bool) -> go.Scatter:
    cells = [grid.cells[row, column] for column in columns]
    spread = ["" if cell.spread is None else f" ± {100 * cell.spread:.1f}" for cell in cells]
    return go.Scatter(
        x=[column.samples for column in columns],
        y=[short(100 * (cell.mean or 0)) for cell in cells],
        name=html.escape(row),
        legendgroup=place,
        mode="lines+markers",  # a line of one point is its symbol alone
        line={"color": style.colour, "dash": "dot" if unusual else style.dash, "width": 2},
        marker={"symbol": style.symbol + "-open" * unusual, "size": 9},
        customdata=[[column.title, said] for column, said in zip(columns, spread, strict=True)],
        hovertemplate=f"{html.escape(row)} %{{customdata[0]}}<br>%{{y:.1f}}%{{customdata[1]}}<extra></extra>",
    )


def _add_bands(figure: go.Figure, grid: Grid, row: str, columns: Sequence[Geometry], style: Style, place: str) -> None:
    known = [(column.samples, grid.cells[row, column]) for column in columns]
    known = [(samples, cell) for samples, cell in known if cell.spread is not None]
    if not known:
        return
    x = [samples for samples, _ in known]
    low, high = ([short(100 * ((c.mean or 0) + sign * (c.spread or 0))) for _, c in known] for sign in (-1, 1))
    figure.add_trace(
        go.Scatter(
            x=x + x[::-1],
            y=high + low[::-1],
            legendgroup=place,
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=translucent(style.colour),
            hoverinfo="skip",
        )
    )
