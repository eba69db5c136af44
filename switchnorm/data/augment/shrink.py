"""Smaller pictures, of a size that divides the original one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shrink(images: Tensor, size: int) -> Tensor:
    """uint8 pictures (N, C, H, W) with blocks of pixels averaged, so that (N, C, size, size) are left."""
    if images.shape[3] == size:
        return images
    # In pieces: as floats, the whole of CIFAR would take four times its memory.
    pieces = (F.adaptive_avg_pool2d(piece.float(), size).round_().to(torch.uint8) for piece in images.split(4096))
    return torch.cat(list(pieces))
