"""Normalizing 8-bit pixels, in the order of channels that a network expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from switchnorm.data.augment.normalization import Normalization, color_statistics

Preset = Literal["rgb", "published"]

#: Mean of blue, green and red in 0..255 that published networks of Caffe's colours expect subtracted.
PUBLISHED_MEAN = (102.9801, 115.9465, 122.7717)


def normalization_of(
    preset: Preset, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, channels: int = 3
) -> dict[str, Any]:
    """How pixels are normalized, as `switchnorm.data.preparation.Preparation` has it: "mean", "std" and "order"."""
    if preset == "published":
        return {"mean": PUBLISHED_MEAN, "std": (1.0, 1.0, 1.0), "order": "bgr"}
    scaled = color_statistics(mean, std, channels)
    return {"mean": scaled[0], "std": scaled[1], "order": "rgb"}


class Colors:
    """Normalizes pixels.

    Args:
        preset: "rgb", red, green and blue less a mean over a deviation; or "published", blue, green and red in 0..255
            less their mean.
        device: where the pixels are.
        mean, std: of "rgb", for pixels in [0, 1]; None for ImageNet's, as `color_normalization`.
        channels: C, of the pictures; 3 for "published".
    """

    def __init__(
        self,
        preset: Preset,
        device: torch.device | str = "cpu",
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels: int = 3,
    ) -> None:
        chosen = normalization_of(preset, mean, std, channels)
        self.reversed = chosen["order"] == "bgr"
        self._normalize = Normalization(chosen["mean"], chosen["std"], device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (..., C, H, W) uint8 as new float32 ones; 0 is the mean colour."""
        return self._normalize(pixels.flip(-3) if self.reversed else pixels)

    def inverse(self, images: Tensor) -> Tensor:
        """The pixels of normalized ones, red, green, blue."""
        pixels = self._normalize.inverse(images)
        return pixels.flip(-3) if self.reversed else pixels
