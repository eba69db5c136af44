"""What becomes of a network's outputs, in numpy: as torch and torchvision compute it, to their rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from switchnorm.data.resizing import Array
from switchnorm.tasks.segmentation.inference import bands

#: A pixel is part of a mask where its probability is above this (He et al., "Mask R-CNN", section 3.1).
MASK_THRESHOLD = 0.5
#: Elements of the largest array on the way to probabilities: what a processor's cache holds.
_ELEMENTS = 2**20


def precise(logits: Array) -> Array:
    """Logits in float32, or float64 where they have that."""
    return logits.astype(np.promote_types(logits.dtype, np.float32), copy=False)


def softmax(logits: Array) -> Array:
    """Probabilities over the first axis, which add up to 1."""
    shares = np.exp(logits - logits.max(0))
    shares /= shares.sum(0)
    return shares


class Lines(NamedTuple):
    """Between which two of `source` values each of `target` lies, bilinearly, with corners not aligned."""

    before: Array
    after: Array
    share: Array
    """Of the one after."""

    @classmethod
    def between(cls, source: int, target: int, dtype: np.dtype) -> Lines:
        """Of so many values resized to so many."""
        number = dtype.type
        place = (np.arange(target, dtype=dtype) + number(0.5)) * (number(source) / number(target)) - number(0.5)
        place = np.maximum(place, 0)
        before = np.minimum(place.astype(np.int64), source - 1)
        after = np.minimum(before + 1, source - 1)
        return cls(before, after, np.clip(place - before, 0, 1).astype(dtype))


def resized(values: Array, size: tuple[int, int]) -> Array:
    """Values (..., h, w) at a height and width, bilinearly as torch's `interpolate` with corners not aligned."""
    dtype = values.dtype
    down, across = Lines.between(values.shape[-2], size[0], dtype), Lines.between(values.shape[-1], size[1], dtype)
    wide = values[..., across.before] * (1 - across.share) + values[..., across.after] * across.share
    share = down.share[:, None]
    return wide[..., down.before, :] * (1 - share) + wide[..., down.after, :] * share


def probabilities(logits: Sequence[Array], size: tuple[int, int]) -> Iterator[tuple[slice, Array]]:
    """The mean probability of each class at the picture's own size, a band of rows after the other.

    Every set of logits is resized and its softmax taken before the mean. No array on the way has more than 2**20
    elements, or than three rows of all classes where these are more.

    Args:
        logits: of one picture, each (K, h, w) with its own h and w.
        size: height and width to predict at.

    Yields:
        A slice of rows, and their probabilities (K, rows, width).
    """
    height, width = size
    plans = [Lines.between(each.shape[1], height, np.dtype(np.float64)) for each in logits]
    for rows in bands(size, [each.shape for each in logits], _ELEMENTS):
        total = _band(logits[0], plans[0], rows, width)
        for each, plan in zip(logits[1:], plans[1:], strict=True):
            total += _band(each, plan, rows, width)
        total /= len(logits)
        yield rows, total


def _band(logits: Array, lines: Lines, rows: slice, width: int) -> Array:
    """Probabilities of a band, (K, rows, width): the columns of its few source rows first, then the rows."""
    before, after = lines.before[rows], lines.after[rows]
    first, last = int(before[0]), int(after[-1])
    source = precise(logits[:, first : last + 1])
    if width == source.shape[2]:
        wide = source
    else:
        across = Lines.between(source.shape[2], width, source.dtype)
        wide = source[..., across.before] * (1 - across.share) + source[..., across.after] * across.share
    above, below = wide[:, before - first], wide[:, after - first]
    share = lines.share[rows, None].astype(source.dtype)
    return softmax((below - above) * share + above)


def labels_of(logits: Sequence[Array], size: tuple[int, int]) -> Array:
    """The likeliest class of every pixel, (height, width) uint8; arguments as of `probabilities`."""
    labels = np.empty(size, np.uint8)
    for rows, shares in probabilities(logits, size):
        labels[rows] = shares.argmax(0)
    return labels


def pasted(shares: Array, box: Array, size: tuple[int, int]) -> Array:
    """The pixels of an object, (height, width) bool, as torchvision's `paste_masks_in_image` places them.

    Args:
        shares: (s, s), the probability of each point of the box.
        box: (4,) float32, x1, y1, x2, y2 in pixels of the picture.
        size: its height and width.
    """
    side = shares.shape[-1]
    x1, y1, x2, y2 = _expanded(box.astype(np.float32), (side + 2) / side)
    shape = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    found = np.zeros(size, bool)
    top, left, bottom, right = max(y1, 0), max(x1, 0), min(y2 + 1, size[0]), min(x2 + 1, size[1])
    if bottom > top and right > left:
        whole = resized(np.pad(shares.astype(np.float32), 1), shape)
        found[top:bottom, left:right] = whole[top - y1 : bottom - y1, left - x1 : right - x1] > MASK_THRESHOLD
    return found


def _expanded(box: Array, scale: float) -> tuple[int, int, int, int]:
    """A box that is larger by a factor about its middle, in whole pixels."""
    half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32(scale)
    middle = (box[2:] + box[:2]) * np.float32(0.5)
    low, high = middle - half, middle + half
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
