"""Masks of objects on a batch's canvas, each by the rectangle that holds it, so that many of them stay small."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Patch(NamedTuple):
    """A mask within a larger picture.

    Args:
        top, left: where the rectangle begins.
        pixels: (h, w) uint8, 1 where the object is.
    """

    top: int
    left: int
    pixels: Array

    def moved(self, down: int, right: int) -> Patch:
        """The same mask, so many pixels further."""
        return Patch(self.top + down, self.left + right, self.pixels)


def bounds(patch: Patch) -> tuple[float, float, float, float]:
    """The box of a mask's pixels, x1, y1, x2, y2; there must be some."""
    rows, columns = (np.flatnonzero(patch.pixels.any(axis)) for axis in (1, 0))
    top, left = patch.top, patch.left
    return float(left + columns[0]), float(top + rows[0]), float(left + columns[-1] + 1), float(top + rows[-1] + 1)


def union(patches: tuple[Patch, ...], size: tuple[int, int]) -> Array:
    """The pixels, (h, w) bool, that one of several masks within a picture of that size covers."""
    covered = np.zeros(size, bool)
    for top, left, pixels in patches:
        height, width = pixels.shape
        covered[top : top + height, left : left + width] |= pixels.astype(bool)
    return covered


def uncovered(patch: Patch, covered: Array) -> Patch | None:
    """What is left of a mask where some pixels are covered: the same one where it loses none, None for nothing."""
    top, left, pixels = patch
    height, width = pixels.shape
    over = covered[top : top + height, left : left + width] & pixels.astype(bool)
    if not over.any():
        return patch
    left_over = pixels * ~over
    return patch._replace(pixels=left_over) if left_over.any() else None
