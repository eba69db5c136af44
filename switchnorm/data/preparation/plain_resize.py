"""Resizing between the nearest pixels alone, in whole numbers, as OpenCV does it.

Each pixel mixes four neighbours, also where a smaller picture leaves out what lies between them; Pillow and torchvision
average all of it there ("antialiasing"). The published evaluation of ADE20K calls OpenCV.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from switchnorm.data.augment.sizes import Size

Array = np.ndarray[Any, Any]

_ONE = 1 << 11  # the weights of two neighbours are whole numbers of this unit
_BAND = 32  # rows at a time, so that what is between the two passes stays in the processor's cache


def plain_resize(pixels: Array, size: Size) -> Array:
    """A picture at another size: `cv2.resize(pixels, size[::-1])`, bit for bit (OpenCV 3.4 to 5.0 on x86).

    Along each row two neighbours are mixed, then two of these rows, each time with weights in units of 1 / 2048 and in
    the roundings of OpenCV's loops for 8 bits. Half the size along both axes is the mean of four pixels there.

    Args:
        pixels: (H, W, 3) uint8.
        size: height and width of the result.

    Returns:
        (h, w, 3) uint8, new.
    """
    height, width, channels = pixels.shape
    if (height, width) == (2 * size[0], 2 * size[1]):
        return _halved(pixels)
    columns, left_weight, right_weight = _neighbours(width, size[1])
    outside = (columns < 0) | (columns + 1 >= width)  # one pixel counts alone
    left_weight[outside], right_weight[outside] = _ONE, 0
    left, right = (_all_channels(each.clip(0, width - 1), channels) for each in (columns, columns + 1))
    left_weight, right_weight = left_weight.repeat(channels), right_weight.repeat(channels)

    rows, upper_weight, lower_weight = _neighbours(height, size[0])
    upper, lower = rows.clip(0, height - 1), (rows + 1).clip(0, height - 1)

    source = pixels.reshape(height, width * channels)
    result = np.empty((size[0], size[1] * channels), np.uint8)
    for start in range(0, size[0], _BAND):
        band = slice(start, start + _BAND)
        needed, places = np.unique(np.concatenate([upper[band], lower[band]]), return_inverse=True)
        lines = source[needed]
        mixed = lines.take(left, 1) * left_weight
        mixed += lines.take(right, 1) * right_weight
        mixed >>= 4  # so that OpenCV can multiply in 16 bits
        above, below = (mixed[each] for each in np.split(places, 2))
        above *= upper_weight[band, None]
        below *= lower_weight[band, None]
        result[band] = ((above >> 16) + (below >> 16) + 2) >> 2
    return result.reshape(*size, channels)


def _halved(pixels: Array) -> Array:
    """The mean of blocks of 2x2 pixels, halves rounded up."""
    wide = pixels.astype(np.uint16)
    return ((wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2] + 2) >> 2).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[Array, Array, Array]:
    """For each of `new` places, the one of the `old` before it, from -1 on, and the weights of it and the next: int32.

    Positions are computed in float64 and rounded to float32, weights from these, rounded half to even.
    """
    position = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    before = np.floor(position)
    share = position - before
    weight, next_weight = (np.rint(each * _ONE).astype(np.int32) for each in (1 - share, share))
    return before.astype(np.intp), weight, next_weight


def _all_channels(columns: Array, channels: int) -> Array:
    """The places of all channels of these pixels in a row."""
    return (columns[:, None] * channels + np.arange(channels)).ravel()
