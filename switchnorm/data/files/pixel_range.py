"""Which numbers of pictures with more than 8 bits are black and white, where nobody says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from switchnorm.data.files.listing import Paths
from switchnorm.data.files.opening import opened
from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.files.remarks import gathered
from switchnorm.data.files.stored import is_plain, read_stored
from switchnorm.errors import InputError

#: How many pictures are looked at.
SAMPLE = 256
#: Names of files that have 8 bits whatever they hold, and need not be opened to know it.
_EIGHT_BITS = (".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".avif")
#: The depths of cameras and instruments, in bits.
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)


class Extent(NamedTuple):
    """Of a picture the least and the greatest number, and whether they are whole and have more than 8 bits."""

    least: float
    greatest: float
    whole: bool
    deep: bool = True


_BYTES = Extent(0, 255, whole=True, deep=False)


def find_range(paths: Paths, bands: Sequence[int] | None) -> tuple[float, float] | None:
    """The range of pictures with more than 8 bits, by up to `SAMPLE` of them that are spread evenly.

    Whole numbers from 0 on end with the least depth that holds them, so that 12 bits in files of 16 are 0 to 4095;
    fractions that reach half of 1 and stay below go from 0 to 1; all others from the least to the greatest.

    Args:
        paths: of the pictures.
        bands: which count, from 0; None for all.

    Returns:
        What is black and what is white; None where all pictures have 8 bits.

    Raises:
        InputError: as `read_picture`, or pictures of 8 bits among others whose range would change them.
    """
    deep = [place for place in range(len(paths)) if not paths.name(place).lower().endswith(_EIGHT_BITS)]
    chosen = [deep[number * len(deep) // min(len(deep), SAMPLE)] for number in range(min(len(deep), SAMPLE))]
    looked_at = [found for place in chosen if (found := _extent(paths[place], bands)) is not None]
    extents = [found for found in looked_at if found.deep]
    if not extents:
        return None
    least, greatest = min(each.least for each in extents), max(each.greatest for each in extents)
    low, high = _range(least, greatest, all(each.whole for each in extents))
    if (len(deep) < len(paths) or len(extents) < len(looked_at)) and Pixels(range=(low, high)).stretches_bytes:
        raise InputError(
            f"some pictures in {paths.folder} have 8 bits, and others fractions from {low:g} to {high:g}; say with "
            "data.range what is black and white in both, as in [0, 255]"
        )
    return low, high


def _extent(path: str, bands: Sequence[int] | None) -> Extent | None:
    """The extent of a picture; None for what cannot be read."""
    try:
        with gathered():  # reading it for a batch says the same again
            if _is_plain(path):
                return _BYTES
            numbers = read_stored(path, pages=bands is not None and max(bands) > 0).shown().numbers
    except (MemoryError, InputError):
        raise
    except Exception:  # it is damaged, which reading it for a batch says
        return None
    if numbers.dtype == np.uint8:
        return _BYTES
    if bands is not None:
        numbers = numbers[..., [band for band in bands if band < numbers.shape[2]]]
    whole = numbers.dtype.kind in "iu"
    numbers = numbers if whole else numbers[np.isfinite(numbers)]
    return Extent(float(numbers.min()), float(numbers.max()), whole) if numbers.size else None


def _is_plain(path: str) -> bool:
    try:
        with opened(path) as picture:
            return is_plain(path, picture)
    except OSError:  # among these what Pillow does not know, and tifffile may
        return False


def _range(low: float, high: float, whole: bool) -> tuple[float, float]:
    if whole and low >= 0:
        return 0.0, float(next(2**depth - 1 for depth in _DEPTHS if high < 2**depth))
    if low >= 0 and 0.5 < high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1
