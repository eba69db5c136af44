"""Where a picture's pixels come to lie when it is resized, cut and mirrored; boxes and masks go with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from switchnorm.data.augment.sizes import Size
from switchnorm.data.detection.objects import Objects, Rle
from switchnorm.data.detection.patches import Patch, bounds
from switchnorm.data.detection.run_lengths import columns
from switchnorm.data.detection.sample import Placed

Array = np.ndarray[Any, Any]

#: How far a box may reach out of a window, in pixels, and still count as whole: by rounding.
_ROUNDING = 1e-2
#: The shortest side of a box, in pixels; anywhere on the largest canvas float32 tells its edges apart.
_SHORTEST = 2.0**-6


@dataclass(frozen=True)
class Placing:
    """A picture is resized, a window of it is cut out, and that is mirrored. Sizes are (height, width) in pixels.

    Args:
        original: the picture's size.
        size: to which it is resized.
        window: top, left, height and width of what is shown of it then.
        mirrored: whether left and right change places.
        inverted: whether top and bottom do.
    """

    original: Size
    size: Size
    window: tuple[int, int, int, int]
    mirrored: bool = False
    inverted: bool = False

    @property
    def shown(self) -> Size:
        """The size of what is shown."""
        return self.window[2], self.window[3]

    def pixels(self, resized: Tensor) -> Tensor:
        """The resized picture's (C, h, w) pixels that are shown, where they are shown."""
        top, left, height, width = self.window
        pixels = resized[:, top : top + height, left : left + width]
        turned = [axis for axis, turns in ((1, self.inverted), (2, self.mirrored)) if turns]
        return pixels.flip(turned) if turned else pixels

    def objects(self, objects: Objects) -> Placed:
        """What is left of a picture's objects.

        An object goes when no part of its box, or no pixel of its mask, is shown. A box that the window cuts is what
        is left of it, or of the mask where there is one. Where a mask had no pixel in the picture either, those that
        its box touches are its mask. Crowds become regions that are ignored.
        """
        moved = self._moved(objects.boxes)
        boxes = self._clipped(moved)
        there = (boxes[:, 2:] - boxes[:, :2] >= _SHORTEST).all(1).tolist()
        cut = ((boxes - moved).abs() > _ROUNDING).any(1).tolist()
        kept, patches, crowds = [], [], []
        for place, crowd in enumerate(objects.crowd.tolist()):
            if not there[place]:
                continue
            if crowd:
                crowds.append(place)
                continue
            if objects.masks is not None:
                patch = self._shown(objects.masks[place], objects.boxes[place])
                if patch is None:
                    continue
                if cut[place]:
                    boxes[place] = torch.tensor(bounds(patch))
                patches.append(patch)
            kept.append(place)
        masks = None if objects.masks is None else tuple(patches)
        return Placed(boxes[kept].float(), objects.labels[kept], boxes[crowds].float(), masks)

    def _shown(self, mask: Rle, box: Tensor) -> Patch | None:
        """What is shown of an object's mask; None for nothing."""
        from faster_coco_eval.core import mask as coco

        patch = self.patch(mask)
        return self.patch(_touched(box, mask["size"])) if patch is None and not coco.area(mask) else patch

    def _moved(self, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) of the picture in pixels of what is shown, as far out as they reach: float64."""
        top, left, height, width = self.window
        factors = [new / old for new, old in zip(self.size, self.original, strict=True)]
        x = boxes[:, 0::2].double() * factors[1] - left
        y = boxes[:, 1::2].double() * factors[0] - top
        if self.mirrored:
            x = width - x.flip(1)
        if self.inverted:
            y = height - y.flip(1)
        return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)

    def _clipped(self, boxes: Tensor) -> Tensor:
        height, width = self.shown
        return boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=boxes.dtype))

    def patch(self, mask: Rle) -> Patch | None:
        """What is shown of a mask: for each pixel the one of the mask in which its middle lies. None for nothing."""
        from faster_coco_eval.core import mask as coco

        left, top, width, height = (int(number) for number in coco.toBbox(mask))
        rows, first_row = _within(self._rows, top, top + height)
        places, first_column = _within(self._columns, left, left + width)
        if not (len(rows) and len(places)):
            return None
        pixels = columns(mask, left, left + width).T[:, rows][places - left].T
        return Patch(first_row, first_column, pixels) if pixels.any() else None

    @property
    def _rows(self) -> Array:
        """For each row that is shown the picture's row."""
        top, _, height, _ = self.window
        return _sources(self.original[0], self.size[0], top, height, self.inverted)

    @property
    def _columns(self) -> Array:
        _, left, _, width = self.window
        return _sources(self.original[1], self.size[1], left, width, self.mirrored)


def _touched(box: Tensor, size: Size) -> Rle:
    """The mask of the pixels that a box (4,) within a picture touches."""
    from faster_coco_eval.core import mask as coco

    left, top, right, bottom = box.tolist()
    pixels = np.zeros(size, np.uint8, order="F")
    pixels[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = 1
    found: Rle = coco.encode(pixels)
    return found


def _sources(old: int, new: int, start: int, count: int, turned: bool) -> Array:
    """For `count` places from `start` on, of `new`, those of the `old` that hold their middles; (count,) int64."""
    places = np.arange(start, start + count)
    if turned:
        places = places[::-1]
    return (2 * places + 1) * old // (2 * new)


def _within(sources: Array, start: int, end: int) -> tuple[Array, int]:
    """Those of monotonous places that lie in [start, end), and where the first of them stands."""
    found = np.flatnonzero((sources >= start) & (sources < end))
    return sources[found], int(found[0]) if len(found) else 0
