"""Resizing pictures of 8 bits, antialiased."""

from __future__ import annotations

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from switchnorm.data.augment.sizes import Size
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.picture import Picture, pixelled, to_tensor
from switchnorm.data.resizing import resize, to_array


def resized(picture: Picture, size: Size, interpolation: Interpolation) -> Tensor:
    """A picture of that size as evaluation shows it, by Pillow, whose numbers are those of any processor.

    Returns:
        (C, h, w) uint8, contiguous.
    """
    return torch.from_numpy(to_array(resize(pixelled(picture), size, interpolation)))


def resized_fast(picture: Picture, size: Size, interpolation: Interpolation) -> Tensor:
    """A picture of that size as training shows it: `resized` to 1 of 255, in a quarter of the time where bilinear.

    torch resizes pixels whose channels lie together without moving them first.

    Returns:
        (C, h, w) uint8, in any layout.
    """
    if interpolation == "bilinear":  # of the others torchvision has not all for tensors
        return TF.resize(to_tensor(picture), list(size), antialias=True)
    return resized(picture, size, interpolation)
