"""Blending the pictures of a batch, and their labels with them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms import v2

#: Images (N, C, H, W) and labels (N,) int64 -> images of the same shape, and the share of each class, (N, K).
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def mixing(mixup: float, cutmix: float, num_classes: int) -> Mix | None:
    """mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019); with both, each batch draws one of them.

    The draws come from torch's generator of the CPU.

    Args:
        mixup: alpha of the Beta distribution of mixup's shares; 0 for no mixup.
        cutmix: alpha of the Beta distribution of CutMix's areas; 0 for no CutMix.
        num_classes: K.

    Returns:
        The function that mixes a batch, or None if neither is wanted.
    """
    mixes: list[v2.Transform] = []
    if mixup:
        mixes.append(v2.MixUp(alpha=float(mixup), num_classes=num_classes))
    if cutmix:
        mixes.append(v2.CutMix(alpha=float(cutmix), num_classes=num_classes))
    if not mixes:
        return None
    return mixes[0] if len(mixes) == 1 else v2.RandomChoice(mixes)
