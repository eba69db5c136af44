"""Run lengths of masks as COCO writes them: checked before they are decoded by what trusts them, and decoded."""

from __future__ import annotations

from typing import Any

import numpy as np

from switchnorm.data.detection.objects import Rle

# The longest run, in pixels; and characters of a number, of five bits each.
_LONGEST, _MOST_CHARACTERS = 1 << 32, 7


def compressed(counts: Any, size: Any) -> bytes:
    """Run lengths, down the columns from the first pixel, not in the mask and in it in turn, in COCO's compressed text.

    Args:
        counts: the text, or the lengths as a list.
        size: height and width.

    Raises:
        ValueError: neither, or lengths that are not those of such a mask.
    """
    if not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side < 1 << 16 for side in size)
    ):
        raise ValueError(f"run lengths of size {size!r:.60}, which is no height and width")
    if isinstance(counts, str) and counts.isascii():
        text = counts.encode()
        _check(_lengths(text), size)
        return text
    if isinstance(counts, list) and all(type(count) is int and 0 <= count < _LONGEST for count in counts):
        from faster_coco_eval.core import mask

        _check(np.array(counts, np.int64), size)
        text = mask.frPyObjects({"counts": counts, "size": size}, *size)["counts"]
        return text if isinstance(text, bytes) else text.encode()
    raise ValueError(f"run lengths {counts!r:.60}, which are neither text nor whole numbers from 0")


def _check(lengths: np.ndarray[Any, Any], size: list[int]) -> None:
    if not len(lengths) or lengths.min() < 0 or lengths.sum() != size[0] * size[1]:
        raise ValueError(f"run lengths of {lengths.sum()} pixels where {size[1]}x{size[0]} are {size[0] * size[1]}")


def _lengths(text: bytes) -> np.ndarray[Any, Any]:
    """The lengths that a compressed text stands for.

    Each number is written in groups of five bits, the lowest first, as the characters from "0" on; 32 says that another
    group follows, and 16 in the last that the number is negative. From the fourth on numbers are less the last but one.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((codes & 32) == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not len(last) or last[-1] != len(codes) - 1:
        raise ValueError("run lengths that are no such text")
    first = np.concatenate([[0], last[:-1] + 1])
    characters = last - first + 1
    if characters.max() > _MOST_CHARACTERS:
        raise ValueError("run lengths that are no such text")
    places = np.arange(len(codes)) - np.repeat(first, characters)
    numbers = np.add.reduceat((codes & 31) << (5 * places), first)
    numbers -= np.where(codes[last] & 16, np.int64(1) << (5 * characters), 0)
    lengths = numbers.copy()
    lengths[1::2] = np.cumsum(numbers[1::2])
    lengths[2::2] = np.cumsum(numbers[2::2])
    return lengths


def columns(mask: Rle, first: int, end: int) -> np.ndarray[Any, Any]:
    """Some columns of a mask, in a fifth of the time in which the whole is decoded: (H, end - first) uint8."""
    height, _ = mask["size"]
    ends = np.cumsum(_lengths(mask["counts"])).clip(first * height, end * height)
    runs = np.diff(ends, prepend=first * height)
    pixels = np.repeat((np.arange(len(runs)) & 1).astype(np.uint8), runs)
    return pixels.reshape(end - first, height).T
