"""The masks of many objects: outlines and run lengths, which become masks of a picture when they are asked for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from switchnorm.data.detection.objects import Rle
from switchnorm.data.detection.ragged import Ragged

#: In which parts of a pixel outlines are kept: files have two decimals or three, and masks are drawn on fifths.
STEPS = 1000
#: How far from the corner of the picture an outline may go, in pixels; farther than any picture does.
FARTHEST = 1 << 20


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

    def taken(self, places: Tensor) -> StoredMasks:
        """Those of these objects, (M,) int64, in this order."""
        rings = Ragged(torch.arange(self.points.rows), self.outlines).taken(places)
        return StoredMasks(self.points.taken(rings.values), rings.ends, self.runs.taken(places))
