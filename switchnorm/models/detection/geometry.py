"""What a box is: where anchors lie, how boxes are clipped, and what their far corners mean.

All boxes inside of a detector are edges, x1, y1, x2, y2, so that the first pixel alone is 0, 0, 1, 1. Two geometries
differ in the rest:

- "torchvision": as torchvision computes.
- "published": as Detectron, and all that descend from it, compute (Girshick et al., "Detectron", 2018): corners that
  are pooled from and given out are the centres of pixels, "inclusive ends", so that x2 is an edge less 1. Counted in
  edges its coding, its overlaps and its areas (width = x2 - x1 + 1) are torchvision's; what differs is that anchors lie
  in the middle of their cell and are rounded otherwise, and that a clipped box keeps one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

from switchnorm.errors import unknown
from switchnorm.models.detection.traced import number

#: Height over width of the anchors of each size.
RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Geometry:
    """A geometry of boxes.

    Attributes:
        name: "torchvision" or "published".
        last: what the far corner of a box is less than its edge: 0 or 1.
    """

    name: str
    last: float

    @classmethod
    def of(cls, name: str) -> Geometry:
        """The geometry of a name; raise `InputError` with the nearest otherwise."""
        if name not in GEOMETRIES:
            raise unknown("boxes", str(name), GEOMETRIES)
        return GEOMETRIES[name]

    def corners(self, boxes: Tensor) -> Tensor:
        """Edges (..., 4) -> what is pooled from and given out, (..., 4)."""
        return boxes - boxes.new_tensor((0, 0, self.last, self.last)) if self.last else boxes

    def edges(self, boxes: Tensor) -> Tensor:
        """The inverse of `corners`."""
        return boxes + boxes.new_tensor((0, 0, self.last, self.last)) if self.last else boxes

    def clip(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes (..., 4) within a picture of (height, width)."""
        height, width = (number(boxes, side) for side in size)
        last = self.last
        low = boxes.new_tensor((0, 0, last, last))
        return boxes.clamp(low, torch.stack([width - last, height - last, width, height]))

    def suppress(self, boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
        """Non-maximum suppression within each group.

        Args:
            boxes: (K, 4).
            scores: (K,).
            groups: (K,) int64; boxes of different groups do not suppress each other.
            threshold: the largest overlap of two that both stay; in the published code these overlap less.

        Returns:
            Indices of those that stay, (M,) int64, by falling score.
        """
        return batched_nms(boxes, scores, groups, self.threshold(threshold))

    def threshold(self, overlap: float) -> float:
        """What kernels, which suppress above a threshold, are to be told for the largest overlap of two that stay."""
        return math.nextafter(overlap, 0) if self.last else overlap  # just below it takes the threshold itself along

    def anchors(self, sizes: Sequence[Sequence[float]], strides: Sequence[int]) -> AnchorGenerator:
        """What makes the anchors of all cells.

        Args:
            sizes: sides of the anchors of each level, in pixels; three of each, one a ratio.
            strides: pixels between the cells of each level.
        """
        if self.last:
            return CentredAnchors(sizes, strides)
        return AnchorGenerator(tuple(tuple(each) for each in sizes), (RATIOS,) * len(sizes))


GEOMETRIES = {geometry.name: geometry for geometry in (Geometry("torchvision", 0.0), Geometry("published", 1.0))}


class CentredAnchors(AnchorGenerator):
    """Anchors in the middle of their cells, rounded as the published code rounds.

    An anchor has the area of a cell at first, its sides are rounded to whole pixels, and then both are multiplied by
    size / stride. The distance of cells is the level's stride; torchvision divides the height of the padded batch by
    the map's, which is another number where that leaves a rest. Arguments as of `Geometry.anchors`.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], strides: Sequence[int]) -> None:
        self.strides = tuple(strides)
        super().__init__(tuple(tuple(each) for each in sizes), (RATIOS,) * len(sizes))
        self.cell_anchors = [_centred(each, stride) for each, stride in zip(sizes, strides, strict=True)]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors (A, 4) of each picture, edges, of all levels one after another."""
        first = feature_maps[0]
        self.set_cell_anchors(first.dtype, first.device)
        steps: Any = [[torch.tensor(stride, device=first.device)] * 2 for stride in self.strides]
        anchors = torch.cat(self.grid_anchors([list(each.shape[-2:]) for each in feature_maps], steps))
        return [anchors] * len(image_list.image_sizes)


def _centred(sizes: Sequence[float], stride: int) -> Tensor:
    """The anchors of the first cell, (3 S, 4) float32: of each ratio all S sizes."""
    anchors = []
    for ratio in RATIOS:
        width = round(math.sqrt(stride * stride / ratio))
        height = round(width * ratio)
        for size in sizes:
            half = [side * size / stride / 2 for side in (width, height)]
            anchors.append([stride / 2 + sign * each for sign in (-1, 1) for each in half])
    return torch.tensor(anchors, device="cpu")  # as torchvision's: a network may be built on the meta device
