"""The section on precision over recall."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from switchnorm.report.common.elements import figure, folded, note, section, side_by_side
from switchnorm.report.common.figures import Style, line_styles, plain_figure, short, translucent
from switchnorm.report.common.groups import Group
from switchnorm.report.common.legends import line_legend
from switchnorm.report.geometry.by_data import first_seed_note
from switchnorm.tasks.detection.columns import KINDS
from switchnorm.tasks.detection.files import OVERLAPS, Curve
from switchnorm.tasks.detection.report.shown import AllDetails, Shown, by_data_set

_HEIGHT = 300
#: How many classes can be told apart by pointing at their lines.
_MOST_CLASSES = 100


def curve_section(groups: Sequence[Group], details: AllDetails) -> str:
    """Precision over recall, in the mean over classes and class by class; nothing where no run says so."""
    known = [group for group in groups if (found := details.get(group.runs[0].path)) and found.curves]
    if not known:
        return ""
    said = (
        "Which share of the detections is right, for each share of the objects that is to be found: the highest "
        "precision at that recall or a greater one, in the mean over classes. The area below a line is the average "
        "precision."
    )
    return section("Precision over recall", note(said + first_seed_note(known)), *by_data_set(known, details, _drawn))


def _drawn(shown: Sequence[Shown]) -> str:
    styles = line_styles([one.group for one in shown])
    panels = [
        figure(drawing, _caption(word, overlap), f"{_caption(word, overlap)}, a line for each normalizer")
        for _, word in KINDS
        for overlap, _ in OVERLAPS
        if (drawing := _means(shown, styles, word, overlap)) is not None
    ]
    legend = line_legend([one.label for one in shown], styles)
    alone = (
        folded(f"{one.label}, class by class", side_by_side(_by_class(one, style)))
        for one, style in zip(shown, styles, strict=True)
    )
    return legend + side_by_side(panels) + "".join(alone)


def _caption(word: str, overlap: str) -> str:
    return f"{'Masks' if word == 'mask' else 'Boxes'} at overlap {overlap.replace(':', ' to ')}"


def _means(shown: Sequence[Shown], styles: Sequence[Style], word: str, overlap: str) -> go.Figure | None:
    """A line for each run; None where no run has one."""
    drawing = _empty()
    for place, (one, style) in enumerate(zip(shown, styles, strict=True)):
        curve = one.details.mean_curve(word, overlap)
        if curve is not None:
            line = {"color": style.colour, "dash": style.dash, "width": 2}
            drawing.add_trace(_line(curve, one.label, line, str(place)))
    return drawing if drawing.data else None


def _by_class(one: Shown, style: Style) -> list[str]:
    """A thin line for each class, and the mean over all."""
    panels = []
    for _, word in KINDS:
        for overlap, _ in OVERLAPS[:1]:
            curves = one.details.curves.get((word, overlap), {})
            mean = one.details.mean_curve(word, overlap)
            if mean is None:
                continue
            drawing = _empty()
            for name, curve in list(curves.items())[:_MOST_CLASSES]:
                line = {"color": translucent(style.colour, 0.5), "width": 1}
                drawing.add_trace(_line(curve, name, line, ""))
            drawing.add_trace(_line(mean, "mean over classes", {"color": style.colour, "width": 3}, ""))
            drawing.update_layout(hovermode="closest")
            caption = _caption(word, overlap)
            left_out = len(curves) - _MOST_CLASSES
            more = f"; {left_out} of {len(curves)} classes are left out" if left_out > 0 else ""
            panels.append(figure(drawing, caption + more, f"{caption}, a line for each class of {one.label}"))
    return panels


def _empty() -> go.Figure:
    drawing = plain_figure(go.Figure(), _HEIGHT)
    drawing.update_layout(hovermode="x unified", margin={"l": 48, "r": 12, "t": 8, "b": 44})
    drawing.update_xaxes(range=[0, 100], title={"text": "recall, %", "standoff": 8}, tickvals=[0, 25, 50, 75, 100])
    drawing.update_yaxes(range=[0, 102], title={"text": "precision, %", "standoff": 4}, tickvals=[0, 25, 50, 75, 100])
    return drawing


def _line(curve: Curve, name: str, line: dict[str, object], place: str) -> go.Scatter:
    shown = html.escape(name)
    return go.Scatter(
        x=[short(100 * recall) for recall in curve.recalls],
        y=[short(100 * precision) for precision in curve.precisions],
        name=shown,
        mode="lines",
        line=line,
        hovertemplate="%{y:.4~g} %" if place else f"{shown}<br>recall %{{x}} %, precision %{{y:.4~g}} %<extra></extra>",
        **({"legendgroup": place} if place else {}),
    )
