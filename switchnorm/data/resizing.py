"""Pictures of 8 bits resized and cut by Pillow, whose numbers are those of any processor. Needs no torch."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from switchnorm.data.interpolation import Interpolation

Array = np.ndarray[Any, Any]
#: In red, green and blue; or (C, H, W) uint8 of any number of channels.
Pixelled: TypeAlias = Image.Image | Array

#: The longest side, in pixels, to which a picture is resized for the crop in the middle.
LONGEST = 8192


def extent(picture: Pixelled) -> tuple[int, int]:
    """Height and width."""
    return (picture.height, picture.width) if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[2])


def to_array(picture: Pixelled) -> Array:
    """(C, H, W) uint8, contiguous."""
    if isinstance(picture, Image.Image):
        return np.array(np.asarray(picture).transpose(2, 0, 1), order="C")  # a copy, for Pillow's own is read-only
    return np.ascontiguousarray(picture)


def resize(picture: Pixelled, size: tuple[int, int], interpolation: Interpolation) -> Pixelled:
    """The picture at a height and width; channels of an array one by one."""
    if extent(picture) == tuple(size):
        return picture
    by = Image.Resampling[interpolation.upper()]
    if isinstance(picture, Image.Image):
        return picture.resize(size[::-1], by)
    return np.stack(
        [np.asarray(Image.fromarray(each).resize(size[::-1], by)) for each in np.ascontiguousarray(picture)]
    )


def short_side(picture: Pixelled, side: int, interpolation: Interpolation) -> Pixelled:
    """The picture with a short side of that length; the long one is rounded down."""
    height, width = extent(picture)
    short = min(height, width)
    return resize(picture, (int(side * height / short), int(side * width / short)), interpolation)


def window(picture: Pixelled, top: int, left: int, height: int, width: int) -> Pixelled:
    """A part of the picture; beside it all is 0."""
    if isinstance(picture, Image.Image):
        return picture.crop((left, top, left + width, top + height))
    high, wide = extent(picture)
    found = np.zeros((picture.shape[0], height, width), np.uint8)
    rows, columns = slice(max(top, 0), min(top + height, high)), slice(max(left, 0), min(left + width, wide))
    found[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = picture[:, rows, columns]
    return found


def centre(picture: Pixelled, height: int, width: int) -> Pixelled:
    """The window of that size in the middle, as torchvision's `center_crop` rounds it."""
    tall, wide = extent(picture)
    return window(picture, _before(tall, height), _before(wide, width), height, width)


def centre_crop(picture: Pixelled, side: int, size: int, interpolation: Interpolation) -> Pixelled:
    """The square of `size` pixels in the middle of the picture whose short side was resized to `side`."""
    return centre(short_side(bounded(picture, side), side, interpolation), size, size)


def bounded(picture: Pixelled, side: int) -> Pixelled:
    """The middle of a picture whose longer side would be resized to more than `LONGEST`; any other as it is.

    A picture of 5,000 by 1 pixels would take a gigabyte otherwise, of which a crop shows a thousandth.
    """
    height, width = extent(picture)
    kept = min(height, width) * max(LONGEST // side, 1)
    return picture if max(height, width) <= kept else centre(picture, min(height, kept), min(width, kept))


def _before(extent: int, wanted: int) -> int:
    """Where a window begins along an axis: in the picture, or before it where that is the shorter of the two."""
    return round((extent - wanted) / 2) if extent >= wanted else -((wanted - extent) // 2)
