"""The masks of many objects: outlines and run lengths, which become masks of a picture when they are asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from switchnorm.data.detection.objects import Rle
from switchnorm.data.detection.ragged import Ragged

#: In which parts of a pixel outlines are kept: files have two decimals or three, and masks are drawn on fifths.
STEPS = 1000
#: How far from the corner of the picture an outline may go, in pixels; farther than any picture does.
FARTHEST = 1 << 20
#: Objects whose outlines are measured at once.
_BLOCK = 1 << 14

Array = np.ndarray[Any, Any]


class StoredMasks(NamedTuple):
    """The masks of objects, each by its outlines or by its run lengths.

    Args:
        points: a row for each outline: x and y in turn, int32, in thousandths of a pixel.
        outlines: (N + 1,) int64: object i has the outlines from outlines[i] to outlines[i + 1].
        runs: a row for each object, uint8: compressed run lengths as COCO writes them; none for one with outlines.
    """

    points: Ragged
    outlines: Tensor
    runs: Ragged

    def rle(self, place: int, size: tuple[int, int]) -> Rle:
        """The mask of an object.

        Args:
            place: of the object.
            size: height and width of its picture.
        """
        from faster_coco_eval.core import mask

        height, width = size
        if text := self.runs.row(place).numpy().tobytes():
            return {"size": [height, width], "counts": text}
        first, end = self.outlines[place : place + 2].tolist()
        rings = [(self.points.row(ring).double() / STEPS).tolist() for ring in range(first, end)]
        found: Rle = mask.merge(mask.frPyObjects(rings, height, width))
        return found

    def without_pixels(self, sizes: Array) -> Array:
        """The objects whose masks have no pixel, (M,) int64: thinner than a pixel, or beside the picture.

        Args:
            sizes: (N, 2) int64, height and width of each object's picture.
        """
        from faster_coco_eval.core import mask

        return np.array(
            [
                place
                for first in range(0, len(sizes), _BLOCK)
                for place in (
                    first + np.flatnonzero(~self._surely_filled(first, sizes[first : first + _BLOCK]))
                ).tolist()
                if not mask.area(self.rle(place, tuple(sizes[place].tolist())))
            ],
            np.int64,
        )

    def _surely_filled(self, first: int, sizes: Array) -> Array:
        """Which of the objects from the first on have pixels for sure, (n,) bool; of others it takes drawing them.

        A convex figure covers more points of a grid than its area less half of its circumference (Bokowski, Hadwiger
        and Wills, 1972). Drawing moves its points by a tenth of a pixel at most, on fifths.
        """
        rings = self.outlines[first : first + len(sizes) + 1]
        counts = rings.diff().numpy()
        start, end = self.points.ends[rings[[0, -1]]].tolist()
        lengths = self.points.lengths[rings[0] : rings[-1]].numpy() // 2
        filled = np.zeros(len(sizes), bool)
        if start == end:
            return filled
        owner = np.repeat(np.arange(len(sizes)), counts)
        shown = np.repeat(sizes[owner], lengths, axis=0)
        points = self.points.values[start:end].numpy().reshape(-1, 2) / STEPS
        y, x = (points[:, 1 - axis].clip(0, shown[:, axis]) for axis in (0, 1))
        starts = lengths.cumsum() - lengths
        following = np.arange(1, len(x) + 1)
        following[starts + lengths - 1] = starts
        area = np.abs(np.add.reduceat(x * y[following] - x[following] * y, starts)) / 2
        around = np.add.reduceat(np.hypot(x[following] - x, y[following] - y), starts)
        np.logical_or.at(filled, owner, area > 0.7 * around + 1)
        return filled

    def taken(self, places: Tensor) -> StoredMasks:
        """Those of these objects, (M,) int64, in this order."""
        rings = Ragged(torch.arange(self.points.rows), self.outlines).taken(places)
        return StoredMasks(self.points.taken(rings.values), rings.ends, self.runs.taken(places))
