"""Weight standardization (WS).

Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from switchnorm.ops.kernels.choice import choose, needs_plain_gradient
from switchnorm.ops.kernels.layouts import dense, like
from switchnorm.ops.moments import accumulation_dtype

#: |mean| / deviation of a row from which rounding of the mean shows in the differences from it. Such rows are computed
#: again, relative to their first weight.
FAR = 4.0

#: Dtypes that PyTorch's own operations, of which the passes on a CPU are made, compute in without rounding between.
_WIDE = (torch.float32, torch.float64)

_batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default


def standardize_weight(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Standardize each output channel's weights: (w - mean) / (std + eps), std being the unbiased one (WS, eq. 7).

    By the fast path that `switchnorm.ops.kernel` describes, or in plain PyTorch.

    Args:
        weight: (O, I, *K), a convolution's.
        eps: added to the standard deviation, as published.

    Returns:
        A tensor of weight's shape, dtype and memory format; 0 where all weights of an output channel are equal, which
        is always so where a channel has a single weight.
    """
    kernel = choose(weight)
    if kernel is None or weight.numel() == 0 or (weight.is_cpu and weight.dtype not in _WIDE):
        return _reference(weight, eps)
    standardized: Tensor = _Standardize.apply(_passes(kernel.name), weight, eps)
    return standardized


def _reference(weight: Tensor, eps: float) -> Tensor:
    """In plain PyTorch: differentiable any number of times, exportable, for any device and dtype."""
    centred, deviation = _centre(weight.to(accumulation_dtype(weight.dtype)))
    return (centred / (deviation + eps)).to(weight.dtype)


def _centre(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (O, ...) minus the mean of each output channel, and the unbiased deviation of each, (O, 1, ...)."""
    dims = tuple(range(1, weight.dim()))
    first = (slice(None), *(slice(0, 1) for _ in dims))
    shifted = weight - weight[first].detach()  # So that equal weights are exactly equal to their mean.
    centred = shifted - shifted.mean(dims, keepdim=True)
    variance = centred.square().sum(dims, keepdim=True) / max(weight[:1].numel() - 1, 1)
    # The square root has no gradient at 0; a constant channel takes that of the numerator alone.
    constant = variance == 0
    return centred, torch.where(constant, 0, torch.where(constant, 1, variance).sqrt())


class Standardized(NamedTuple):
    """Standardized rows, and what their gradient needs.

    Attributes:
        rows: (O, F), the standardized weights.
        mean, std: (O,), of each row.
    """

    rows: Tensor
    mean: Tensor
    std: Tensor


class Passes(Protocol):
    """Standardization of rows (O, F) and its gradient, on one kind of device."""

    def standardize(self, rows: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """(rows - mean) / (std + eps) in new memory, the mean and the unbiased deviation of each row (O,)."""

    def standardize_backward(self, dy: Tensor, rows: Tensor, mean: Tensor, std: Tensor, eps: float) -> Tensor:
        """The gradient of the rows in new memory; that of the numerator alone where std is 0."""


class _Cpu:
    """By PyTorch's own operations: a row is a group of one channel to Group Norm, and a channel to Batch Norm."""

    @staticmethod
    def standardize(rows: Tensor, eps: float) -> Standardized:
        """Two passes, the second in place. Rows far from 0, or that do not vary, are computed again, and slower."""
        count, size = rows.shape
        outs, means, inverses = torch.native_group_norm(rows[None], None, None, 1, count, size, count, 0.0)
        out, mean, inverse = outs[0], means[0], inverses[0]
        std = inverse.reciprocal() * math.sqrt(size / max(size - 1, 1))
        out *= (inverse * (std + eps)).reciprocal()[:, None]
        far = _far(mean, std)
        if len(far):
            w = rows[far]
            centred, deviation = _centre(w)
            out[far] = centred / (deviation + eps)
            mean[far] = w[:, 0] - centred[:, 0]
            std[far] = deviation[:, 0]
        return Standardized(out, mean, std)

    @staticmethod
    def standardize_backward(dy: Tensor, rows: Tensor, mean: Tensor, std: Tensor, eps: float) -> Tensor:
        """One call; the rows that the forward pass computed again are so here too.

        With c = w - mean, s = std + eps and n weights in a row, the gradient is
        (dy - sum(dy) / n - c * sum(dy * c) / ((n - 1) * std * s)) / s. That is Batch Norm's gradient if `inverse` is
        given as the reciprocal of its deviation and `scale` as its weight.
        """
        size = rows.shape[1]
        s = std + eps
        inverse = (size / max(size - 1, 1) / (std * s)).sqrt()
        scale = (s * inverse).reciprocal()
        (dw, *_) = _batch_norm_backward(
            dy[None], rows[None], scale, None, None, mean, inverse, True, 0.0, [True, False, False]
        )
        dw = dw[0]
        far = _far(mean, std)
        if len(far):
            centred, deviation = _centre(rows[far])
            given, s = dy[far], deviation + eps
            # A row that does not vary takes the gradient of the numerator alone.
            share = torch.where(deviation == 0, 0, (given * centred).sum(1, keepdim=True) / (deviation * s))
            dw[far] = (given - given.mean(1, keepdim=True) - centred * share / max(size - 1, 1)) / s
        return dw


def _far(mean: Tensor, std: Tensor) -> Tensor:
    """The rows whose mean is far from 0 compared with their deviation; also those that do not vary or hold NaN."""
    return (~(mean.abs() < FAR * std)).nonzero()[:, 0]


def _passes(name: str) -> Passes:
    """The passes of a kernel."""
    if name == "triton":
        from switchnorm.ops.kernels.triton import weight as triton_passes

        return triton_passes
    return _Cpu


class _Standardize(torch.autograd.Function):
    """Standardization as one node of autograd's graph, which keeps the weight and (O,) tables."""

    @staticmethod
    def forward(ctx: Any, passes: Passes, weight: Tensor, eps: float) -> Tensor:
        weight = dense(weight)
        rows, mean, std = passes.standardize(_rows(weight), eps)
        ctx.save_for_backward(weight, mean, std)
        ctx.call = passes, eps
        return _laid_out(rows, weight)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor, None]:
        passes, eps = ctx.call
        weight, mean, std = ctx.saved_tensors
        if needs_plain_gradient(dy):
            with torch.enable_grad():
                again = _reference(weight, eps)
            (dw,) = torch.autograd.grad(again, weight, dy, create_graph=torch.is_grad_enabled())
            return None, dw, None
        if not (dy.is_contiguous() and weight.is_contiguous()):
            dy = like(dy, weight)
        return None, _laid_out(passes.standardize_backward(_rows(dy), _rows(weight), mean, std, eps), weight), None


def _rows(weight: Tensor) -> Tensor:
    """View weight (O, I, *K), contiguous or channels-last, as (O, F) with F = I * K, in the order of its memory."""
    return (weight if weight.is_contiguous() else weight.movedim(1, -1)).view(len(weight), -1)


def _laid_out(rows: Tensor, weight: Tensor) -> Tensor:
    """View rows (O, F) in weight's shape and memory format: the inverse of `_rows`."""
    if weight.is_contiguous():
        return rows.view(weight.shape)
    return rows.view(weight.movedim(1, -1).shape).movedim(-1, 1)
