"""Importance as figures: a bar for each layer, epoch by epoch, and the average over layers over epochs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from statistics import fmean

import plotly.graph_objects as go

from switchnorm.report.common.figures import epoch_axis, plain_figure, short, statistic_colour
from switchnorm.report.importance.mixture import MOMENTS, all_statistics, weights
from switchnorm.runs.importance import LayerWeights

#: The layers in the order of depth, by epoch.
Importance = Mapping[int, Sequence[LayerWeights]]
# More steps than a slider can be set to would only make the page larger.
_SLIDER_STOPS = 40
_LABEL_LENGTH = 22


def bars_by_layer(importance: Importance) -> go.Figure:
    """What each layer relies on: stacked bars, the first layer on top, after the last epoch.

    The left panel shows the mean's weights, the right one the variance's. A frame per epoch, named after it, lets the
    page step through training.
    """
    layers = importance[max(importance)]
    statistics = all_statistics(layers)
    figure = _panels(plain_figure(go.Figure(), _bars_height(layers)))
    for panel, moment in enumerate(MOMENTS, start=1):
        for statistic in statistics:
            figure.add_trace(_bars(layers, moment, statistic), row=1, col=panel)
    figure.update_layout(barmode="stack", bargap=0.14, hovermode="closest", margin={"l": 8, "r": 12, "t": 30, "b": 30})
    figure.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%", showgrid=False)
    figure.update_yaxes(range=[len(layers) - 0.5, -0.5], showgrid=False)
    labels = [html.escape(_ending(layer.layer)) for layer in layers]
    figure.update_yaxes(tickvals=list(range(len(layers))), ticktext=labels, ticklabelstandoff=5, automargin=True, col=1)
    figure.frames = [_frame(epoch, importance[epoch], statistics) for epoch in _stops(sorted(importance))]
    return figure


def _bars_height(layers: Sequence[LayerWeights]) -> int:
    return 60 + 20 * max(len(layers), 5)


def _bars(layers: Sequence[LayerWeights], moment: str, statistic: str) -> go.Bar:
    return go.Bar(
        orientation="h",
        x=_shares(layers, moment, statistic),
        y=list(range(len(layers))),
        name=html.escape(statistic),
        marker={"color": statistic_colour(statistic), "line": {"width": 0}},
        customdata=[html.escape(layer.layer) for layer in layers],
        hovertemplate="%{customdata}<br>" + html.escape(statistic) + " %{x:.0%}<extra></extra>",
    )


def _frame(epoch: int, layers: Sequence[LayerWeights], statistics: Sequence[str]) -> go.Frame:
    shares = [_shares(layers, moment, statistic) for moment in MOMENTS for statistic in statistics]
    return go.Frame(name=str(epoch), data=[{"type": "bar", "x": share} for share in shares])


def _shares(layers: Sequence[LayerWeights], moment: str, statistic: str) -> list[float]:
    return [short(weights(layer, moment).get(statistic, 0.0)) for layer in layers]


def _stops(epochs: Sequence[int]) -> list[int]:
    """At most some forty of the epochs, evenly apart, always with the first and the last."""
    stride = max(1, -(-len(epochs) // _SLIDER_STOPS))
    return sorted({epochs[0], *epochs[::-1][::stride]})


def average_over_epochs(importance: Importance) -> go.Figure | None:
    """How a mixture evolves: the average over layers of each statistic's weight, stacked, over epochs."""
    epochs = sorted(importance)
    if len(epochs) < 2:
        return None
    last = importance[epochs[-1]]
    figure = _panels(plain_figure(go.Figure(), min(_bars_height(last), 340)))
    for panel, moment in enumerate(MOMENTS, start=1):
        for statistic in all_statistics(last):
            means = [fmean(_shares(importance[epoch], moment, statistic)) for epoch in epochs]
            figure.add_trace(_area(epochs, means, moment, statistic), row=1, col=panel)
    figure.update_layout(hovermode="x unified", margin={"l": 32, "r": 12, "t": 30, "b": 44})
    figure.update_xaxes(**epoch_axis(epochs), showgrid=False)
    figure.update_yaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%", showgrid=False)
    return figure


def _area(epochs: Sequence[int], means: Sequence[float], moment: str, statistic: str) -> go.Scatter:
    colour = statistic_colour(statistic)
    return go.Scatter(
        x=list(epochs),
        y=[short(mean) for mean in means],
        name=html.escape(statistic),
        stackgroup=moment,
        mode="lines",
        line={"width": 0, "color": colour},
        fillcolor=colour,
        hovertemplate="%{y:.0%}",
    )


def _panels(figure: go.Figure) -> go.Figure:
    titles = [title.capitalize() for title in MOMENTS.values()]
    figure = figure.set_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=titles)
    return figure.update_annotations(font_size=13)


def _ending(name: str) -> str:
    """A layer's name, or its end: the part that differs from its neighbours' names."""
    return name if len(name) <= _LABEL_LENGTH else "…" + name[1 - _LABEL_LENGTH :]
