"""The section on sizes of objects: average precision and recall by area, and over epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from switchnorm.report.common.elements import figure, folded, note, section, side_by_side, table
from switchnorm.report.common.figures import curve, line_styles
from switchnorm.report.common.groups import Group
from switchnorm.report.common.legends import line_legend
from switchnorm.report.common.numbers import percent
from switchnorm.report.common.table import Cell, Table
from switchnorm.report.geometry.folds import fold
from switchnorm.tasks.detection.columns import KINDS, STATS, column

_HEIGHT = 240


def size_section(groups: Sequence[Group]) -> str:
    """All numbers of COCO's evaluation after the last epoch, and those of boxes and masks over epochs."""
    if not any(_measured(groups, kind) for kind, _ in KINDS):
        return ""
    said = note(
        "Objects of less than 32 × 32 pixels are small, of more than 96 × 96 large. AR is the share of objects that "
        "are found, in the mean over overlaps, with at most 100 detections of a picture and class; of AR1 and AR10, "
        "with at most 1 and 10."
    )
    drawn = (folded(title, _numbers(some)) for title, some in fold(groups).items())
    return section("Sizes of objects", said, *drawn)


def _numbers(groups: Sequence[Group]) -> str:
    tables = (_table(groups, kind, word) for kind, word in KINDS)
    return "".join(table(each) for each in tables if each is not None) + folded("Over epochs", _over_epochs(groups))


def _table(groups: Sequence[Group], kind: str, word: str) -> Table | None:
    """A row per group, the best of several on the same test data strong; None where no run has measured any."""
    stats = _measured(groups, kind)
    if not stats:
        return None
    columns = [[_last(group, column(kind, stat)) for group in groups] for stat, _ in stats]
    best = [_best(groups, values) for values in columns]
    rows = tuple(
        (
            Cell(group.label),
            *(
                Cell(text := percent(values[place]), strong=text == most.get(group.data) != percent(0.0))
                for values, most in zip(columns, best, strict=True)
            ),
        )
        for place, group in enumerate(groups)
    )
    titles = ("Normalizer", *(f"{title} %" for _, title in stats))
    return Table(f"{word.capitalize()} AP and AR after the last epoch, by size of objects", titles, rows)


def _best(groups: Sequence[Group], values: Sequence[float | None]) -> dict[str, str]:
    """The highest value on each test data of several groups, as it is shown."""
    found: dict[str, list[float]] = {}
    for group, value in zip(groups, values, strict=True):
        found.setdefault(group.data, []).extend([] if value is None else [value])
    several = Counter(group.data for group in groups)
    return {data: percent(max(each)) for data, each in found.items() if each and several[data] > 1}


def _measured(groups: Sequence[Group], kind: str) -> list[tuple[str, str]]:
    """Those of `STATS` that some run has measured, of boxes or of masks."""
    return [
        (stat, title) for stat, title in STATS if any(_last(group, column(kind, stat)) is not None for group in groups)
    ]


def _last(group: Group, name: str) -> float | None:
    """The mean over the seeds that count, after the last epoch."""
    curves = (list(run.measured(name).values()) for run in group.counted)
    values = [values[-1] for values in curves if values]
    return fmean(values) if values else None


def _over_epochs(groups: Sequence[Group]) -> str:
    panels = []
    for kind, word in KINDS:
        for stat, title in STATS:
            drawing = curve(groups, column(kind, stat), 100, _HEIGHT)
            if drawing is not None:
                caption = f"{word.capitalize()} {title}, %"
                panels.append(figure(drawing, caption, f"{caption}, over epochs, a line for each normalizer"))
    return line_legend([group.label for group in groups], line_styles(groups)) + side_by_side(panels)
