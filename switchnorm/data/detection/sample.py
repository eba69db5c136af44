"""A training picture on its way into a batch, with what is on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from switchnorm.data.augment.sizes import Size
from switchnorm.data.detection.patches import Patch

#: Top, left, height and width, in pixels.
Rectangle = tuple[int, int, int, int]


class Placed(NamedTuple):
    """The objects of a picture, in pixels of what is shown of it.

    Args:
        boxes: (K, 4) float32, x1, y1, x2, y2.
        labels: (K,) int64, from 1.
        ignored: (M, 4) float32, regions that are neither object nor background.
        masks: of the objects; None where the data has none.
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor
    masks: tuple[Patch, ...] | None

    def moved(self, down: int, right: int) -> Placed:
        """The same objects, so many pixels further."""
        shift = torch.tensor([right, down, right, down], dtype=torch.float32)
        masks = None if self.masks is None else tuple(mask.moved(down, right) for mask in self.masks)
        return Placed(self.boxes + shift, self.labels, self.ignored + shift, masks)


class Sample(NamedTuple):
    """A training picture.

    Args:
        pixels: (C, h, w) uint8, in any layout.
        objects: on it.
        filled: the rectangles that pictures fill; whatever is beside them is none.
    """

    pixels: Tensor
    objects: Placed
    filled: tuple[Rectangle, ...]

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]


def joined(placed: list[Placed]) -> Placed:
    """The objects of several pictures on one."""
    masks = [each.masks for each in placed]
    return Placed(
        torch.cat([each.boxes for each in placed]),
        torch.cat([each.labels for each in placed]),
        torch.cat([each.ignored for each in placed]),
        None if any(each is None for each in masks) else tuple(mask for each in masks for mask in each or ()),
    )
