"""Weight standardization (WS).

Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from switchnorm.ops.moments import accumulation_dtype


def standardize_weight(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Standardize each output channel's weights: (w - mean) / (std + eps), std being the unbiased one (WS, eq. 7).

    Args:
        weight: (O, I, *K), a convolution's.
        eps: added to the standard deviation, as published.

    Returns:
        A tensor of weight's shape and dtype; 0 where all weights of an output channel are equal, which is always so
        where a channel has a single weight.
    """
    w = weight.to(accumulation_dtype(weight.dtype)).flatten(1)
    w = w - w[:, :1].detach()  # So that equal weights are exactly equal to their mean.
    centred = w - w.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / max(w.shape[1] - 1, 1)
    # The square root has no gradient at 0; a constant channel takes that of the numerator alone.
    constant = variance == 0
    deviation = torch.where(constant, 0, torch.where(constant, 1, variance).sqrt())
    return (centred / (deviation + eps)).to(weight.dtype).view_as(weight)
