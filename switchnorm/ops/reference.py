"""The reference: normalization in plain PyTorch, differentiable any number of times, for any device and dtype.

It is what the fast paths are tested against, and what torch.compile, torch.export and second derivatives use.
"""

from __future__ import annotations

from torch import Tensor

from switchnorm.ops.kernels.base import Operands
from switchnorm.ops.moments import moments
from switchnorm.ops.rule import Rule, derive, map_factor, mix, pivot_of, weights_of


def normalize(operands: Operands, rule: Rule, relu: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """y, laid out as x, and the (C,) mean and variance of the batch statistic; x is (N, C, *S) of any memory format."""
    x, mean_importance, var_importance, weight, bias, residual, running = operands
    mean, var = moments(x)
    pivot = pivot_of(rule, mean, running)
    derived = derive(rule, mean, var * map_factor(rule), running, pivot)
    mean = mix([s.mean for s in derived.statistics], weights_of(mean_importance, mean))
    var = mix([s.var for s in derived.statistics], weights_of(var_importance, var))
    y = _affine(x, pivot, mean, var, weight, bias, rule.eps)
    if residual is not None:
        y = y + residual.to(y.dtype)
    if relu:
        y = y.relu()
    if derived.batch_mean is None or derived.batch_var is None:
        return y.to(x.dtype), None, None
    return y.to(x.dtype), derived.batch_mean.detach(), derived.batch_var.detach()


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
