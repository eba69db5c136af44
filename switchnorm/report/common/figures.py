"""Figures: what lines look like, and a metric over epochs. Fonts, grids and backgrounds are the page's (page.js)."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import plotly.graph_objects as go

from switchnorm.report.common.groups import Group
from switchnorm.runs.appearance import Appearance

# Told apart with any colour vision (simulated: protan, deutan, tritan), and of 3:1 contrast on white and on near-black.
_STATISTIC_COLOURS = {"instance": "#d97706", "layer": "#b8306b", "group": "#2fa28b", "batch": "#2b6cb8"}
_OTHER_COLOUR = "#7b8494"
_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


@dataclass(frozen=True)
class Style:
    """How a group's line looks: never by colour alone."""

    colour: str
    dash: str
    symbol: str


def statistic_colour(statistic: str) -> str:
    """The one colour of a statistic, wherever it is shown."""
    return _STATISTIC_COLOURS.get(statistic, _OTHER_COLOUR)


def line_styles(groups: Sequence[Group]) -> list[Style]:
    """A style per group, by its normalizer."""
    return norm_styles([group.appearance for group in groups])


def norm_styles(norms: Sequence[Appearance]) -> list[Style]:
    """A style per line: colour by normalizer, dashes where several share a colour, and a symbol of its own."""
    used: Counter[str] = Counter()
    styles = []
    for place, norm in enumerate(norms):
        colour = norm.color
        styles.append(Style(colour, _DASHES[used[colour] % len(_DASHES)], _SYMBOLS[place % len(_SYMBOLS)]))
        used[colour] += 1
    return styles


def curve(groups: Sequence[Group], column: str, scale: float = 1, height: int = 320) -> go.Figure | None:
    """A metric over epochs: a line per group, the mean over seeds, in a band from the least to the most.

    Args:
        groups: the groups, in the order of `line_styles`; a trace's legendgroup is the place in it.
        column: the metric, as metrics.csv names it.
        scale: what to multiply it with, 100 for percentages.
        height: of the figure, in pixels.

    Returns:
        The figure, or None where no run has measured the metric.
    """
    figure = plain_figure(go.Figure(), height)
    for place, (group, style) in enumerate(zip(groups, line_styles(groups), strict=True)):
        runs = group.counted or group.runs
        by_epoch = _by_epoch([run.measured(column) for run in runs], scale)
        if by_epoch:
            if len(runs) > 1:
                figure.add_trace(_band(by_epoch, style, str(place)))
            figure.add_trace(_line(by_epoch, style, str(place), group.label))
    figure.update_layout(hovermode="x unified", margin={"l": 48, "r": 12, "t": 8, "b": 44})
    figure.update_xaxes(**epoch_axis([int(epoch) for trace in figure.data for epoch in trace.x]))
    figure.update_yaxes(nticks=6)
    return figure if figure.data else None


def _by_epoch(curves: Sequence[Mapping[int, float]], scale: float) -> dict[int, list[float]]:
    epochs = sorted({epoch for each in curves for epoch in each})
    return {epoch: [scale * each[epoch] for each in curves if epoch in each] for epoch in epochs}


def _line(by_epoch: Mapping[int, Sequence[float]], style: Style, place: str, label: str) -> go.Scatter:
    return go.Scatter(
        x=list(by_epoch),
        y=[short(fmean(values)) for values in by_epoch.values()],
        name=html.escape(label),
        legendgroup=place,
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 2},
        marker={"symbol": style.symbol, "size": 7, "maxdisplayed": 10},
        hovertemplate="%{y:.4~g}",
    )


def _band(by_epoch: Mapping[int, Sequence[float]], style: Style, place: str) -> go.Scatter:
    """One outline: forth along the largest values and back along the smallest."""
    epochs = list(by_epoch)
    top, bottom = ([short(pick(values)) for values in by_epoch.values()] for pick in (max, min))
    return go.Scatter(
        x=epochs + epochs[::-1],
        y=top + bottom[::-1],
        legendgroup=place,
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=translucent(style.colour),
        hoverinfo="skip",
    )


def plain_figure(figure: go.Figure, height: int) -> go.Figure:
    """Without plotly's own look, which would be ten times the data, and without a legend, which is the page's."""
    return figure.update_layout(template="none", height=height, showlegend=False, dragmode=False)


def epoch_axis(epochs: Sequence[int]) -> dict[str, object]:
    """Whole epochs: a tick at each while they are few."""
    few = len(set(epochs)) <= 8
    return {"title": {"text": "epoch", "standoff": 8}, "tickformat": "d", **({"dtick": 1} if few else {"nticks": 8})}


def translucent(colour: str, opacity: float = 0.15) -> str:
    """A colour through which others show: by default that of a band behind lines."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def short(value: float) -> float:
    """Five significant digits: more would only make the page larger."""
    return float(f"{value:.5g}")
