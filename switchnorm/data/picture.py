"""A picture on its way through augmentation: Pillow's with three channels, a tensor with any other number of them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from switchnorm.data.interpolation import Interpolation
from switchnorm.data.resizing import Pixelled

#: In red, green and blue; or (C, H, W) uint8.
Picture = Image.Image | Tensor


def rgb(picture: Picture) -> Picture:
    """The same picture, in red, green and blue where it is Pillow's."""
    return picture.convert("RGB") if isinstance(picture, Image.Image) and picture.mode != "RGB" else picture


def pixelled(picture: Picture) -> Pixelled:
    """The same picture without torch."""
    return picture.numpy() if isinstance(picture, Tensor) else picture


def size_of(picture: Picture) -> tuple[int, int]:
    """Height and width."""
    if isinstance(picture, Tensor):
        return picture.shape[1], picture.shape[2]
    return picture.height, picture.width


def to_tensor(picture: Picture) -> Tensor:
    """(C, H, W) uint8."""
    return picture if isinstance(picture, Tensor) else torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def shown(picture: Picture) -> Image.Image:
    """What people are shown of it: the first three channels, or the first in grey; in red, green and blue."""
    if not isinstance(picture, Tensor):
        return picture
    channels = picture[:3] if len(picture) >= 3 else picture[:1].expand(3, -1, -1)
    return Image.fromarray(channels.permute(1, 2, 0).contiguous().numpy())


def by(interpolation: Interpolation, channels: int) -> InterpolationMode:
    """How torchvision resizes pictures of so many channels.

    Of tensors the nearest pixel is the one whose middle is nearest, as of Pillow's pictures.
    """
    if interpolation == "nearest" and channels != 3:
        return InterpolationMode.NEAREST_EXACT
    return InterpolationMode(interpolation)
