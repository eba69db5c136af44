"""Moments: the mean and variance of each (sample, channel) map, from which every statistic derives."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which statistics of `dtype` are kept: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def sum_dtype(x: Tensor, residual: Tensor | None) -> torch.dtype:
    """The dtype in which x is normalized for a residual to be added to it: sums of two dtypes are rounded once."""
    return x.dtype if residual is None or residual.dtype == x.dtype else accumulation_dtype(x.dtype)


def cast(t: Tensor, dtype: torch.dtype) -> Tensor:
    """t in `dtype`; t itself where that is its dtype, since each call into PyTorch costs a small layer time."""
    return t if t.dtype == dtype else t.to(dtype)


def map_size(x: Tensor) -> int:
    """How many elements one (sample, channel) map of x (N, C, *S) holds; 1 for a flat (N, C) input."""
    size = 1
    for side in x.shape[2:]:
        size *= side
    return size


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance of each map.

    Args:
        x: (N, C, *S) of any floating dtype and memory format; S may be empty, any side may be 0.

    Returns:
        `mean`, `var`: (N, C) in float32, or float64 for float64 input. The variance is 0 where a map has one element;
        both are 0 where a map has none. A large offset that all elements share costs neither of them digits.
    """
    x = x.to(accumulation_dtype(x.dtype))
    if x.dim() == 2:
        return x, torch.zeros_like(x)
    dims = tuple(range(2, x.dim()))
    if x.numel() == 0:
        empty = x.sum(dims)
        return empty, empty
    var, mean = torch.var_mean(x, dims, correction=0)
    return mean, var
