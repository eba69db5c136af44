"""Mosaics: four pictures as one, which meet in a point (Bochkovskiy, Wang and Liao, "YOLOv4", 2020, section 3.3).

Each shows a window of itself at the size that it would have alone, so that objects are no smaller than without.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from switchnorm.data.augment.sizes import Size
from switchnorm.data.detection.sample import Rectangle, Sample, joined


def quarters(size: Size, meet: tuple[float, float]) -> list[Rectangle]:
    """The four rectangles of a mosaic, row by row; those of a side without pixels are empty.

    Args:
        size: of the mosaic.
        meet: where they meet, down and across, in shares of its sides.
    """
    height, width = size
    down, right = (round(side * share) for side, share in zip(size, meet, strict=True))
    return [
        (0, 0, down, right),
        (0, right, down, width - right),
        (down, 0, height - down, right),
        (down, right, height - down, width - right),
    ]


def mosaic(size: Size, parts: Sequence[tuple[Rectangle, Sample]]) -> Sample:
    """A mosaic of pictures, each in its rectangle; smaller ones lie where the four meet.

    Args:
        size: of the mosaic.
        parts: rectangles as `quarters` gives them, without empty ones, and a sample that fits into each.
    """
    pixels = torch.zeros(len(parts[0][1].pixels), *size, dtype=torch.uint8)
    objects, filled = [], []
    for (top, left, height, width), sample in parts:
        shown = sample.size
        down, right = (top or height - shown[0]), (left or width - shown[1])
        pixels[:, down : down + shown[0], right : right + shown[1]] = sample.pixels
        objects.append(sample.objects.moved(down, right))
        filled.append((down, right, *shown))
    return Sample(pixels, joined(objects), tuple(filled))
