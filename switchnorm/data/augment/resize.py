"""Resizing pictures of 8 bits, antialiased."""

from __future__ import annotations

import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor

from switchnorm.data.augment.sizes import Size
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.picture import Picture, by, to_tensor


def resized(picture: Picture, size: Size, interpolation: Interpolation) -> Tensor:
    """A picture of that size as evaluation shows it, by Pillow, whose numbers are those of any processor.

    Returns:
        (C, h, w) uint8, contiguous.
    """
    channels = 3 if isinstance(picture, Image.Image) else len(picture)
    return to_tensor(TF.resize(picture, list(size), by(interpolation, channels))).contiguous()


def resized_fast(picture: Picture, size: Size, interpolation: Interpolation) -> Tensor:
    """A picture of that size as training shows it: `resized` to 1 of 255, in a quarter of the time where bilinear.

    torch resizes pixels whose channels lie together without moving them first.

    Returns:
        (C, h, w) uint8, in any layout.
    """
    if interpolation == "bilinear":  # of the others torchvision has not all for tensors
        return TF.resize(to_tensor(picture), list(size), antialias=True)
    return resized(picture, size, interpolation)
