"""Regions of maps as batches of their own."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, box_area, roi_align

from switchnorm.errors import InputError
from switchnorm.models.detection.geometry import GEOMETRIES, Geometry


class RegionPool(MultiScaleRoIAlign):
    """RoIAlign (He et al., "Mask R-CNN", ICCV 2017) from the level that a region's size asks for.

    Lin et al., "Feature Pyramid Networks", CVPR 2017, equation 1. Unlike in torchvision's own, scales are those of the
    maps' strides, and not guessed from the pictures of the first batch.

    Args:
        maps: names of the maps, by rising stride.
        strides: of the maps.
        side: of what is pooled.
        sampling_ratio: points in each direction that a pixel is the average of; 0 takes as many as the region has
            pixels of the map for it.
        geometry: of the boxes, whose corners are given.
    """

    #: As of `OnePicture`.
    of_coordinates: ClassVar[bool] = True

    def __init__(
        self, maps: Sequence[str], strides: Sequence[int], side: int, sampling_ratio: int, geometry: Geometry
    ) -> None:
        super().__init__(list(maps), side, sampling_ratio)
        self.scales = [1 / stride for stride in strides]
        self.finest = int(math.log2(strides[0]))
        self.geometry = geometry

    @classmethod
    def of(cls, pool: MultiScaleRoIAlign, maps: Container[str]) -> RegionPool:
        """That of one of torchvision's whose scales are known already, for maps of these names."""
        strides = [round(1 / scale) for scale in pool.scales]
        (side, _), ratio = pool.output_size, pool.sampling_ratio
        names = [name for name in pool.featmap_names if name in maps]
        found = cls(names, strides, side, ratio, GEOMETRIES["torchvision"])
        found.canonical_scale, found.canonical_level = pool.canonical_scale, pool.canonical_level
        return found

    def forward(self, x: dict[str, Tensor], boxes: Sequence[Tensor] | Tensor, image_shapes: object = None) -> Tensor:
        """Pool regions.

        Args:
            x: the maps by name, (N, C, h, w).
            boxes: corners (K, 4) of each picture, or (K, 5) with the picture's number before them.
            image_shapes: is not needed.

        Returns:
            (K, C, side, side), regions in the order of the boxes.
        """
        regions = boxes if isinstance(boxes, Tensor) else _numbered(boxes)
        maps = [x[name] for name in self.featmap_names]
        # In mixed precision maps have few bits, and boxes must keep theirs.
        given = maps[0].dtype
        dtype = torch.promote_types(given, regions.dtype)
        maps, regions = [each.to(dtype) for each in maps], regions.to(dtype)
        if len(maps) == 1:
            return roi_align(maps[0], regions, self.output_size, self.scales[0], self.sampling_ratio).to(given)
        levels = self.levels(regions[:, 1:], len(maps))
        at = levels[:, None] == torch.arange(len(maps), device=levels.device)
        parts = [
            roi_align(each, regions[torch.where(here)[0]], self.output_size, scale, self.sampling_ratio)
            for each, scale, here in zip(maps, self.scales, at.unbind(1), strict=True)
        ]
        # Not by an index in brackets, whose backward pass would expect that some are there twice.
        return torch.cat(parts).index_select(0, _places(at)).to(given)

    def levels(self, boxes: Tensor, count: int) -> Tensor:
        """Which of the maps, 0 to count - 1, each box (K, 4) is pooled from, (K,)."""
        side = box_area(self.geometry.edges(boxes)).sqrt()
        level = torch.floor(self.canonical_level + torch.log2(side / self.canonical_scale) + 1e-6)
        return level.clamp(self.finest, self.finest + count - 1) - self.finest


def _places(at: Tensor) -> Tensor:
    """At which level each region is, (K, L) bool -> where it is after those of finer levels, by their order, (K,)."""
    counted = at.cumsum(0)
    finer = at.sum(0).cumsum(0) - at.sum(0)
    return ((counted - 1 + finer) * at).sum(1)


def check_regions(maps: Mapping[str, Tensor], rois: Tensor) -> None:
    """Raise `InputError` unless regions are (K, 5) with the numbers of pictures that there are maps of.

    RoIAlign itself would read beside the maps.
    """
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise InputError(f"regions must have the shape (K, 5): picture, x1, y1, x2, y2; got {tuple(rois.shape)}")
    pictures, numbers = len(next(iter(maps.values()))), rois[:, 0]
    outside = ~((numbers >= 0) & (numbers < pictures))
    if bool(outside.any()):
        found = f"{numbers[outside][0].item():g}"
        raise InputError(f"a region is of picture {found}, but there are maps of {pictures}, from 0 to {pictures - 1}")


def _numbered(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes (K, 4) of each picture -> (K, 5) of all, with the picture's number before them."""
    number = torch.arange(len(boxes), device=boxes[0].device).repeat_interleave(
        torch.tensor([len(each) for each in boxes], device=boxes[0].device)
    )
    joined = torch.cat(list(boxes))
    return torch.cat([number[:, None].to(joined.dtype), joined], 1)
