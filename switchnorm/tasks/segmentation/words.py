"""The classes of segmentation in words, as the command line prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from switchnorm.tasks.segmentation.confusion import Scores


def class_lines(names: Sequence[str], scores: Scores) -> list[str]:
    """IoU, accuracy and share of the pixels of every class, in %."""

    def percent(value: float) -> str:
        return "-" if math.isnan(value) else f"{100 * value:.2f}"

    shares = scores.pixels.double() / scores.pixels.sum()
    width = max(len("class"), *map(len, names))
    lines = [f"  {'class':{width}} {'IoU %':>8} {'accuracy %':>11} {'pixels %':>9}"]
    for name, *values in zip(names, scores.iou.tolist(), scores.accuracy.tolist(), shares.tolist(), strict=True):
        iou, accuracy, share = map(percent, values)
        lines.append(f"  {name:{width}} {iou:>8} {accuracy:>11} {share:>9}")
    return lines
