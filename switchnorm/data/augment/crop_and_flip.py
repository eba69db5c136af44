"""Crops and mirrors of whole batches: for every output pixel the source pixel is computed, one gather moves all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from switchnorm.data.counter import Stream, integers, uniform


def crop_offsets(seed: int, pass_index: int, index: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Top and left, (N,) each in [0, 2 * padding], of the window that every sample shows of its padded picture."""
    top = integers(seed, pass_index, index, Stream.CROP_TOP, 2 * padding + 1)
    left = integers(seed, pass_index, index, Stream.CROP_LEFT, 2 * padding + 1)
    return top, left


def flips(seed: int, pass_index: int, index: Tensor) -> Tensor:
    """Which samples are mirrored: (N,) bool, true for one half."""
    return uniform(seed, pass_index, index, Stream.FLIP) < 0.5


def crop_and_flip(
    images: Tensor, seed: int, pass_index: int, index: Tensor, *, padding: int = 4, flip: bool = True
) -> Tensor:
    """Pad with zeros, crop a random window of the original size, then mirror one half of the pictures left to right.

    Args:
        images: (N, C, H, W), pixels before normalization, so that the padding is black.
        seed: the run's seed.
        pass_index: the pass over the data.
        index: (N,) int64, the samples' places in the dataset; with seed and pass they alone decide.
        padding: pixels added on each side.
        flip: whether pictures are mirrored at all.

    Returns:
        (N, C, H, W) of the images' dtype, contiguous.
    """
    height, width = images.shape[2:]
    top, left = crop_offsets(seed, pass_index, index, padding)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    if flip:
        columns = torch.where(flips(seed, pass_index, index)[:, None], columns.flip(1), columns)
    return _gather(F.pad(images, (padding,) * 4), rows, columns)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of `images` (N, C, H, W) at rows (N, h) and columns (N, w), as (N, C, h, w)."""
    pixel = rows[:, :, None] * images.shape[3] + columns[:, None, :]
    pixel = pixel.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, pixel).unflatten(2, (rows.shape[1], columns.shape[1]))
