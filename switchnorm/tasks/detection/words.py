"""The classes of a detector in words, as the command line prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from switchnorm.tasks.detection.average_precision import Scores

_OVERLAPS = (("AP", None), ("AP50", 0.5), ("AP75", 0.75))


def class_lines(names: Sequence[str], scores: Scores, width: int | None = None) -> list[str]:
    """Average precision and recall of every class in %, and how many objects and detections it has.

    Args:
        names: of the classes.
        scores: of all of them.
        width: columns of the terminal. Where a table is wider each class has a sentence, which can be broken; None is
            for any width.
    """
    columns: dict[str, list[str]] = {}
    for kind, found in scores.kinds.items():
        word = kind.replace("_", " ")
        for title, overlap in _OVERLAPS:
            columns[f"{word}{title} %"] = [_percent(value) for value in found.of_classes(overlap).tolist()]
        columns[f"{word}AR %"] = [_percent(value) for value in found.recall_of_classes.tolist()]
    columns["objects"] = [str(count) for count in scores.objects.tolist()]
    columns["detections"] = [str(count) for count in scores.detections.tolist()]
    longest = max(len("class"), *map(len, names))
    widths = [max(8, len(title)) for title in columns]
    rows = zip(("class", *names), *([title, *values] for title, values in columns.items()), strict=True)
    lines = [
        f"  {name:{longest}} " + " ".join(f"{cell:>{wide}}" for cell, wide in zip(cells, widths, strict=True))
        for name, *cells in rows
    ]
    if width is not None and len(lines[0]) > width:
        lines = [
            f"  {name}: " + ", ".join(f"{title} {values[place]}" for title, values in columns.items())
            for place, name in enumerate(names)
        ]
    if scores.dropped:
        lines.append(f"  {scores.dropped} detections are left out, for their boxes or scores are not finite numbers")
    return lines


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
