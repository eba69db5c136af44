"""How evaluation runs a segmentation network: on mirror images too, in sliding windows. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from switchnorm.errors import InputError

#: An array of numpy, or a tensor.
T = TypeVar("T", bound=Any)

#: Windows start at multiples of this many pixels, the coarsest grid of the encoders.
GRID = 32


@dataclass(frozen=True)
class Inference:
    """How a network is run on a picture; its outputs for mirror images and overlapping windows are averaged.

    Args:
        flip: whether it is run on the mirror image too.
        window: side in pixels of square windows that slide over the picture, a multiple of `GRID`; what overlaps is
            averaged, and the last ones end with the picture, up to `GRID` - 1 pixels smaller. None for whole pictures.
        overlap: share of a window's side that the next one covers again, in [0, 1).

    Raises:
        InputError: the window or the overlap is impossible.
    """

    flip: bool = False
    window: int | None = None
    overlap: float = 1 / 3

    def __post_init__(self) -> None:
        if self.window is not None and (self.window < GRID or self.window % GRID):
            near = max(GRID, round(self.window / GRID) * GRID)
            raise InputError(f"window {self.window} is no multiple of {GRID} pixels; the nearest is {near}")
        if not 0 <= self.overlap < 1:
            raise InputError(f"overlap {self.overlap} is not in [0, 1): windows have to move on; 0.33 is usual")


def bands(size: tuple[int, int], logits: Sequence[tuple[int, ...]], most: int) -> Iterator[slice]:
    """Rows of a picture that are predicted at once, one band after the other.

    Args:
        size: height and width of the picture.
        logits: shapes (K, h, w) of those that are resized to it.
        most: elements of the largest array on the way; three rows of all classes are taken where these are more.
    """
    height, width = size
    budget = max(3, most // (logits[0][0] * max(width, *(w for _, _, w in logits))))
    # A band of r rows needs at most r * h / height + 2 source rows, which have to fit as well.
    step = max(1, min(budget, *((budget - 2) * height // h for _, h, _ in logits)))
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


def stitched(
    run: Callable[[T], T], pictures: T, side: int, overlap: float, zeros: Callable[[T, tuple[int, ...]], T]
) -> T:
    """The logits of windows that slide over pictures, averaged where they overlap.

    Args:
        run: (..., h, w) to logits (..., h', w').
        pictures: (..., height, width), an array or a tensor.
        side: of the windows, in pixels.
        overlap: as of `Inference`.
        zeros: of a shape, like some logits, and precise enough to add up.

    Raises:
        InputError: the network's resolution does not fit sliding windows.
    """
    tops, lefts = (starts(extent, side, overlap) for extent in pictures.shape[-2:])
    parts = {(top, left): run(pictures[..., top : top + side, left : left + side]) for top in tops for left in lefts}
    first, last = parts[0, 0], parts[tops[-1], lefts[-1]]
    down = _pixels_per_logit(side, first.shape[-2], tops)
    right = _pixels_per_logit(side, first.shape[-1], lefts)
    shape = tops[-1] // down + last.shape[-2], lefts[-1] // right + last.shape[-1]
    total, covered = zeros(first, (*first.shape[:-2], *shape)), zeros(first, shape)
    for (top, left), part in parts.items():
        y, x = top // down, left // right
        into = ..., slice(y, y + part.shape[-2]), slice(x, x + part.shape[-1])
        total[into] += part
        covered[into] += 1
    return total / covered


def _pixels_per_logit(side: int, found: int, starts: Sequence[int]) -> int:
    """The network's resolution along an axis; any value will do where one window covers it."""
    if len(starts) == 1:
        return GRID
    ratio, rest = divmod(side, found)
    if rest or GRID % ratio:
        raise InputError(
            f"a network that answers a window of {side} pixels with {found} logits cannot slide: there has to be one "
            f"logit for a number of pixels that divides {GRID}; leave the window out to predict whole pictures"
        )
    return ratio


def starts(extent: int, side: int, overlap: float) -> list[int]:
    """Where windows start along an axis, in pixels: multiples of `GRID`, evenly apart, the first at 0."""
    last = -(-max(0, extent - side) // GRID)  # of the last window
    if last == 0:
        return [0]
    stride = max(1, math.floor(side * (1 - overlap) / GRID + 1e-9))
    gaps = -(-last // stride)
    return [GRID * (place * last // gaps) for place in range(gaps + 1)]
