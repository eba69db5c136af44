"""Normalizing pixels by the mean and deviation of each channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Mean and deviation of ImageNet's red, green and blue, for pixels in [0, 1], as every published network expects them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalization:
    """(pixel - mean) / std per channel, on one device.

    Args:
        mean: C numbers that are subtracted, in units of the pixels.
        std: C numbers that divide.
        device: where the images are.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device | str = "cpu") -> None:
        deviation = torch.tensor(std, device=device).view(-1, 1, 1)
        self._scale = 1 / deviation
        self._shift = -torch.tensor(mean, device=device).view(-1, 1, 1) / deviation

    def __call__(self, images: Tensor) -> Tensor:
        """Images (..., C, H, W) of any dtype as new float32 ones."""
        return (images * self._scale).add_(self._shift)

    def inverse(self, images: Tensor) -> Tensor:
        """The pixels of normalized images, float32."""
        return (images - self._shift) / self._scale


def color_normalization(
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
    channels: int = 3,
) -> Normalization:
    """Normalization of 8-bit pixels (..., C, H, W).

    Args:
        mean: of each channel, for pixels in [0, 1]; None for ImageNet's: of red, green and blue, and for any other
            number of channels the average of the three.
        std: likewise.
        device: where the images are.
        channels: C.
    """
    return Normalization(*color_statistics(mean, std, channels), device)


def color_statistics(
    mean: Sequence[float] | None = None, std: Sequence[float] | None = None, channels: int = 3
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of 8-bit pixels in 0..255, as `color_normalization` takes them for pixels in [0, 1]."""
    chosen = (_of_imagenet(IMAGENET_MEAN, mean, channels), _of_imagenet(IMAGENET_STD, std, channels))
    scaled = [tuple(255 * value for value in values) for values in chosen]
    return scaled[0], scaled[1]


def _of_imagenet(known: tuple[float, ...], given: Sequence[float] | None, channels: int) -> Sequence[float]:
    if given is not None:
        return given
    return known if channels == len(known) else (sum(known) / len(known),) * channels
