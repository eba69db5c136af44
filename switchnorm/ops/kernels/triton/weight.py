"""Weight standardization: each direction one launch, a program per output channel.

A row of a convolution's weights is a few thousand numbers, which stay in the first cache between looks at them.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from switchnorm.ops.kernels.triton.cut import power_above
from switchnorm.ops.kernels.triton.launch import Launch, Launches, on_device
from switchnorm.ops.moments import accumulation_dtype

#: Elements of a block, and the warps that work on it: 16 bytes of bfloat16 a thread.
BLOCK = 2048
WARPS = 8


@triton.jit
def row_block(row, i, width, BLOCK_L: tl.constexpr):
    """Offsets of the i-th block of a row, and which elements exist."""
    column = i * BLOCK_L + tl.arange(0, BLOCK_L)
    return row.to(tl.int64) * width + column, column < width


@triton.jit
def standardize_kernel(
    w_ptr, out_ptr, mean_ptr, std_ptr, width, EPS: tl.constexpr, BLOCK_L: tl.constexpr, ACC: tl.constexpr
):
    """One row: its mean, then its deviation, then the quotients."""
    row = tl.program_id(0)
    first = tl.load(w_ptr + row.to(tl.int64) * width).to(ACC)
    total = tl.zeros((BLOCK_L,), ACC)
    for i in range(tl.cdiv(width, BLOCK_L)):
        at, mask = row_block(row, i, width, BLOCK_L)
        # Relative to the first weight, so that equal weights are exactly equal to their mean.
        total += tl.where(mask, tl.load(w_ptr + at, mask=mask, other=0).to(ACC) - first, 0)
    shift = tl.sum(total, 0) / tl.full((), width, ACC)
    square = tl.zeros((BLOCK_L,), ACC)
    for i in range(tl.cdiv(width, BLOCK_L)):
        at, mask = row_block(row, i, width, BLOCK_L)
        centred = tl.where(mask, tl.load(w_ptr + at, mask=mask, other=0).to(ACC) - first - shift, 0)
        square += centred * centred
    std = tl.sqrt(tl.sum(square, 0) / tl.maximum(tl.full((), width, ACC) - 1, 1))
    tl.store(mean_ptr + row, first + shift)
    tl.store(std_ptr + row, std)
    for i in range(tl.cdiv(width, BLOCK_L)):
        at, mask = row_block(row, i, width, BLOCK_L)
        centred = tl.load(w_ptr + at, mask=mask, other=0).to(ACC) - first - shift
        tl.store(out_ptr + at, centred / (std + EPS), mask=mask)


@triton.jit
def standardize_backward_kernel(
    dy_ptr, w_ptr, mean_ptr, std_ptr, dw_ptr, width, EPS: tl.constexpr, BLOCK_L: tl.constexpr, ACC: tl.constexpr
):
    """One row: the sums of dy and of dy * (w - mean), then the gradient."""
    row = tl.program_id(0)
    mean = tl.load(mean_ptr + row)
    std = tl.load(std_ptr + row)
    total = tl.zeros((BLOCK_L,), ACC)
    product = tl.zeros((BLOCK_L,), ACC)
    for i in range(tl.cdiv(width, BLOCK_L)):
        at, mask = row_block(row, i, width, BLOCK_L)
        dy = tl.load(dy_ptr + at, mask=mask, other=0).to(ACC)
        w = tl.load(w_ptr + at, mask=mask, other=0).to(ACC)
        total += dy
        product += tl.where(mask, dy * (w - mean), 0)
    inverse = 1 / (std + EPS)
    average = tl.sum(total, 0) / tl.full((), width, ACC)
    # The gradient of std is (w - mean) / ((width - 1) * std); it has none where it is 0.
    degrees = tl.maximum(tl.full((), width, ACC) - 1, 1)
    along = tl.where(std > 0, tl.sum(product, 0) * inverse * inverse / (degrees * tl.where(std > 0, std, 1)), 0)
    for i in range(tl.cdiv(width, BLOCK_L)):
        at, mask = row_block(row, i, width, BLOCK_L)
        dy = tl.load(dy_ptr + at, mask=mask, other=0).to(ACC)
        w = tl.load(w_ptr + at, mask=mask, other=0).to(ACC)
        tl.store(dw_ptr + at, (dy - average) * inverse - (w - mean) * along, mask=mask)


def standardize(weight2d: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(w - mean) / (std + eps) for every row of weight2d (O, I), contiguous, std being the unbiased one.

    Returns:
        The standardized weights, 0 in a row of equal weights; mean and std, (O,), which the backward pass needs.
    """
    out = torch.empty_like(weight2d)
    mean, std = (weight2d.new_empty(len(weight2d), dtype=accumulation_dtype(weight2d.dtype)) for _ in range(2))
    with on_device(weight2d):
        _launch(standardize_kernel, *weight2d.shape, weight2d.dtype, weight2d.device, eps)(weight2d, out, mean, std)
    return out, mean, std


def standardize_backward(dy2d: Tensor, weight2d: Tensor, mean: Tensor, std: Tensor, eps: float) -> Tensor:
    """The gradient of weight2d; in a row of equal weights, where std has none, that of the numerator alone."""
    dw = torch.empty_like(weight2d)
    with on_device(weight2d):
        launch = _launch(standardize_backward_kernel, *weight2d.shape, weight2d.dtype, weight2d.device, eps)
        launch(dy2d, weight2d, mean, std, dw)
    return dw


@functools.lru_cache(maxsize=4096)
def _launch(kernel: Any, rows: int, width: int, dtype: torch.dtype, device: torch.device, eps: float) -> Launches:
    """A block that takes the whole row if it can, with 8 elements a thread."""
    block = min(BLOCK, power_above(width))
    warps = max(1, min(WARPS, block // 256))
    return Launches(Launch(kernel, rows, dtype, (width,), warps=warps, EPS=eps, BLOCK_L=block))
