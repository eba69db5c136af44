"""The objects on one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # and so nothing here needs torch
    from torch import Tensor

#: A mask as run lengths, as COCO has them: "size" [height, width] and "counts", which is compressed bytes.
Rle = dict[str, Any]


class Objects(NamedTuple):
    """The objects on a picture, in its pixels.

    Attributes:
        boxes: (K, 4) float32, x1, y1, x2, y2: edges, so that the first pixel alone is 0, 0, 1, 1.
        labels: (K,) int64 from 1; 0 is the background, which is no class of a dataset.
        area: (K,) float64, by which objects are small, medium or large: of the mask where the file says so.
        crowd: (K,) bool: a region of many objects, or one that does not count. It is never learned as an object, and
            detections on it are neither right nor wrong.
        masks: a mask of the whole picture for each; None where the data has none.
    """

    boxes: Tensor
    labels: Tensor
    area: Tensor
    crowd: Tensor
    masks: tuple[Rle, ...] | None = None
