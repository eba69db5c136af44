"""Random erasing: a rectangle of some pictures becomes the mean colour."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from switchnorm.data.counter import Stream, uniform

#: Share of the picture's area that is erased, and ratio of its height to its width: torchvision's defaults.
_AREA = (0.02, 0.33)
_RATIO = (0.3, 3.3)
_ATTEMPTS = 10


def erase(images: Tensor, seed: int, pass_index: int, index: Tensor, *, probability: float) -> Tensor:
    """Set a random rectangle to 0, which is the mean colour of normalized images.

    Zhong et al., "Random erasing data augmentation", 2017, with torchvision's ranges: a rectangle of 2 to 33 percent of
    the area, height to width from 0.3 to 3.3 (uniform in the logarithm). The first of 10 attempts that is smaller than
    the picture counts; where none is, the picture stays whole.

    Args:
        images: (N, C, H, W), normalized.
        seed: the run's seed.
        pass_index: the pass over the data.
        index: (N,) int64, the samples' places in the dataset.
        probability: share of the pictures that lose a rectangle.

    Returns:
        (N, C, H, W) of the images' dtype.
    """
    size = images.shape[-2:]
    top, left, height, width = rectangles(seed, pass_index, index, size)
    height = torch.where(uniform(seed, pass_index, index, Stream.ERASING) < probability, height, 0)
    rows = _inside(size[0], top, height)[:, None, :, None]
    columns = _inside(size[1], left, width)[:, None, None, :]
    return images.masked_fill((rows & columns).to(images.device), 0)


def rectangles(
    seed: int, pass_index: int, index: Tensor, size: tuple[int, int] | torch.Size
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width, (N,) int64 each, of the rectangle in pictures of `size` (H, W); height 0 is none."""
    attempts = range(_ATTEMPTS)
    areas = torch.stack([uniform(seed, pass_index, index, Stream.ERASING_AREA + attempt) for attempt in attempts])
    ratios = torch.stack([uniform(seed, pass_index, index, Stream.ERASING_RATIO + attempt) for attempt in attempts])
    area = size[0] * size[1] * (_AREA[0] + (_AREA[1] - _AREA[0]) * areas)
    low, high = (math.log(ratio) for ratio in _RATIO)
    ratio = _exp(low + (high - low) * ratios)
    heights = torch.sqrt(area * ratio).round().long()
    widths = torch.sqrt(area / ratio).round().long()
    fits = (heights < size[0]) & (widths < size[1])
    first = fits.to(torch.uint8).argmax(dim=0, keepdim=True)  # the first one, if several are true
    height = torch.where(fits.any(0), heights.gather(0, first)[0], 0)
    width = torch.where(fits.any(0), widths.gather(0, first)[0], 0)
    top = _place(uniform(seed, pass_index, index, Stream.ERASING_TOP), size[0] - height + 1)
    left = _place(uniform(seed, pass_index, index, Stream.ERASING_LEFT), size[1] - width + 1)
    return top, left, height, width


def _exp(exponent: Tensor) -> Tensor:
    """e to the power of numbers between -2 and 2, by Taylor's series, of which 16 terms are exact to float32.

    How torch.exp rounds may depend on a number's place in the tensor, and so on the batch; single products, quotients
    and sums are rounded alike everywhere.
    """
    power = torch.ones_like(exponent)
    for degree in range(16, 0, -1):
        power = power * exponent / degree + 1
    return power


def _place(number: Tensor, places: Tensor) -> Tensor:
    return torch.minimum((number * places).long(), places - 1)


def _inside(length: int, start: Tensor, extent: Tensor) -> Tensor:
    """(N, length) bool: which places are in [start, start + extent)."""
    places = torch.arange(length, device=start.device)
    return (places >= start[:, None]) & (places < (start + extent)[:, None])
