"""Objects drawn on pictures: boxes with names and scores, and masks, in the colours of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]


def paint(
    picture: Image.Image,
    boxes: Any,
    labels: Any,
    names: Sequence[str],
    colors: Array,
    scores: Any = None,
    masks: Sequence[Any] | None = None,
) -> Image.Image:
    """A picture with objects drawn over it, the first on top.

    Args:
        picture: of any mode; it is left as it is.
        boxes: (K, 4) x1, y1, x2, y2, edges in pixels of the picture.
        labels: (K,) integers from 1.
        names: of the classes; label 1 is the first.
        colors: (C, 3) uint8, of the classes.
        scores: (K,) in [0, 1], written beside the names; None for objects that are known.
        masks: of each object, as run lengths (`Rle`) or (H, W) arrays, in the size of the picture.

    Returns:
        A picture of mode "RGB", of the same size.
    """
    raise NotImplementedError
