"""The reference: normalization in plain PyTorch, differentiable any number of times, exportable, for any device and dtype.

It is what the fast paths are tested against, and what torch.compile, torch.export and second derivatives use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from switchnorm.ops.moments import moments
from switchnorm.ops.rule import Rule, derive, mix
from switchnorm.ops.statistics import Table


def normalize(
    x: Tensor,
    mean_importance: Tensor | None,
    var_importance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    running: Table | None,
    rule: Rule,
    relu: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """y, laid out as x, and the (C,) mean and variance of the batch statistic; arguments as those of the public function.

    x is (N, C, *S) of any memory format; the rest is as `switchnorm.ops.normalize` takes it.
    """
    derived = derive(rule, *moments(x), running)
    mean = mix([s.mean for s in derived.statistics], mean_importance)
    var = mix([s.var for s in derived.statistics], var_importance)
    y = _affine(x, derived.pivot, mean, var, weight, bias, rule.eps)
    if residual is not None:
        y = y + residual.to(y.dtype)
    if relu:
        y = y.relu()
    return y.to(x.dtype), derived.batch_mean, derived.batch_var


def _affine(
    x: Tensor, pivot: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """(x - pivot - mean) / sqrt(var + eps) * weight + bias in the tables' dtype."""
    scale = (var + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.to(scale.dtype)
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias.to(shift.dtype)
    over_maps = (..., *(None,) * (x.dim() - 2))
    return (x.to(scale.dtype) - pivot[over_maps]) * scale[over_maps] + shift[over_maps]
