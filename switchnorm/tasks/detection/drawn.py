"""A test picture with its objects, and with what was found on it, in the size in which it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_masks
from PIL import Image

from switchnorm.data.detection.objects import Rle
from switchnorm.tasks.detection.found import Found, Truth
from switchnorm.tasks.detection.painting import paint

Array = np.ndarray[Any, Any]


class Drawer:
    """Draws on pictures in the colours of their classes.

    Args:
        names: of the classes.
        colors: of the classes, (C, 3) uint8.
        shown: the score from which detections are drawn.
        longest: side in pixels to which larger pictures are reduced, so that signs stay legible; None for none.
    """

    def __init__(self, names: Sequence[str], colors: Array, shown: float, longest: int | None = None) -> None:
        self.names = names
        self.colors = colors
        self.shown = shown
        self.longest = longest

    def objects(self, picture: Image.Image, truth: Truth) -> Image.Image:
        """The objects that are there, crowds dashed."""
        return self._paint(picture, truth.boxes, truth.labels, None, truth.masks, truth.crowd)

    def found(self, picture: Image.Image, found: Found) -> Image.Image:
        """The detections of that score and more, the best on top."""
        certain = np.flatnonzero(found.scores >= self.shown)
        best = found.chosen(certain[np.argsort(-found.scores[certain], kind="stable")])
        return self._paint(picture, best.boxes, best.labels, best.scores, best.masks, None)

    def _paint(
        self,
        picture: Image.Image,
        boxes: Array,
        labels: Array,
        scores: Array | None,
        masks: Sequence[Rle] | None,
        crowd: Array | None,
    ) -> Image.Image:
        share = min(1.0, (self.longest or max(picture.size)) / max(picture.size))
        size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
        if size == picture.size:
            return paint(picture, boxes, labels, self.names, self.colors, scores, masks, crowd)
        scale = np.tile([size[0] / picture.width, size[1] / picture.height], 2)
        small = None if masks is None else [_Reduced(mask, size) for mask in masks]
        smaller = picture.convert("RGB").resize(size)
        return paint(smaller, boxes * scale, labels, self.names, self.colors, scores, small, crowd)


class _Reduced:
    """A mask in another size, decoded when it is painted: one at a time is in memory."""

    def __init__(self, mask: Rle, size: tuple[int, int]) -> None:
        self.mask = mask
        self.size = size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        whole = Image.fromarray(coco_masks.decode(self.mask) * np.uint8(255))
        return np.asarray(np.asarray(whole.resize(self.size, Image.Resampling.BOX)) >= 128, dtype)
