"""Where PyTorch's own kernels of Group and Batch Normalization are fast, and where they are exact.

Exact is what is off by less than a thousandth of a deviation where the mean is 1000 deviations. Both kernels are
written for contiguous inputs, and exact for these. Channels-last on a CPU, Group Norm's variance is the mean of squares
less the square of the mean in float32, which loses all digits there, so that it is given a contiguous copy. Batch
Norm's mean is one sum in float32, whose rounding grows with the number of its terms: where that shows another path is
taken, with and without the compiled library.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchnorm.ops.kernels.choice import needs_plain_operations

#: Elements of a channels-last input from which this library's own passes are faster than PyTorch's on a copy.
COPIED = 1 << 16
#: Terms of Batch Norm's sums up to which it does not matter how far from 0 the mean is.
LONG_SUM = 1 << 10
#: |mean| / deviation of a channel, times the square root of the number of terms, from which rounding shows.
FAR = 1 << 13
#: Pixels by which this is estimated.
SAMPLE = 64


def is_channels_last(x: Tensor) -> bool:
    """Whether PyTorch's kernels take x (N, C, *S) for channels-last, which need not be dense."""
    return x.dim() > 3 and x.stride(1) == 1 and not x.is_contiguous()


def group_norm_is_fast(x: Tensor) -> bool:
    """Whether torch.nn.functional.group_norm is the best choice for x (N, C, *S), or for a contiguous copy of it."""
    ours = x.numel() >= COPIED and is_channels_last(x) and x.dtype in (torch.float32, torch.float64)
    return x.is_cpu and not ours


def instance_norm_is_fast(x: Tensor) -> bool:
    """As `group_norm_is_fast`, where every channel is a group: there the compiled passes are faster in both layouts."""
    return x.is_cpu and x.numel() < COPIED


def batch_norm_is_exact(x: Tensor) -> bool:
    """Whether torch.nn.functional.batch_norm is exact for x (N, C, *S) by statistics of the batch."""
    if not is_channels_last(x) or not x.is_cpu or x.dtype != torch.float32 or x.numel() < LONG_SUM * x.shape[1]:
        return True
    pixels = x.detach().movedim(1, -1).flatten(0, -2)
    var, mean = torch.var_mean(pixels[:: len(pixels) // SAMPLE], 0)
    return bool((mean.square() * len(pixels) <= FAR**2 * var).all())


def contiguous(x: Tensor) -> Tensor:
    """A contiguous copy of a channels-last x (N, C, *S), on which Group Norm's kernel is exact; x itself otherwise.

    The gradient of x is laid out as x is.
    """
    # Compilers see through the copies, but would have to ask for strides.
    if torch.compiler.is_compiling() or not is_channels_last(x):
        return x
    if needs_plain_operations(x):
        return x.contiguous()
    copy: Tensor = _Contiguous.apply(x)
    return copy


def channels_last(t: Tensor) -> Tensor:
    """t (N, C, *S) with the channels last in memory."""
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


class _Contiguous(torch.autograd.Function):
    """`torch.Tensor.contiguous`, whose own gradient would be contiguous too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return channels_last(grad)
