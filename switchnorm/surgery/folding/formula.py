"""What a normalization computes in evaluation, by its numbers alone, and what of it a convolution can take over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Formula:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, where mean and var are mixtures of statistics.

    Attributes:
        channels: C.
        means, variances: the share of each statistic that has one, by "instance", "layer", "group:G" and "batch"; the
            last stands for the running statistics.
        eps: added to the variance.
        weight, bias: (C,); ones and zeros where the layer has none.
        running_mean, running_var: (C,); None where no batch statistic is kept.
        unbiased: whether variances are SN's published ones, unbiased within a map, or population variances.
        offset: (C,), what has been subtracted from x already; the formula is about x as it was before.
    """

    channels: int
    means: Mapping[str, float]
    variances: Mapping[str, float]
    eps: float
    weight: Tensor
    bias: Tensor
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    unbiased: bool = False
    offset: Tensor | None = None

    @property
    def statistics(self) -> frozenset[str]:
        """All statistics with a share."""
        return frozenset((*self.means, *self.variances))

    @property
    def constant(self) -> bool:
        """Whether the formula is an affine map of each channel."""
        return self.statistics == {"batch"}

    def double(self) -> Formula:
        """The formula with its tensors in float64."""
        names = ("weight", "bias", "running_mean", "running_var", "offset")
        held: dict[str, Any] = {name: getattr(self, name) for name in names}
        return replace(self, **{name: None if t is None else t.detach().double() for name, t in held.items()})


@dataclass(frozen=True)
class Division:
    """A formula as what a convolution before it computes, and the rest.

    Attributes:
        scale, shift: (C,) float64, by which the convolution's outputs are multiplied, and what is then added to its
            bias; None for ones and zeros.
        drops_bias: whether the rest subtracts a mean of each map, so that any bias of the convolution is lost.
        rest: what remains to be computed of the convolution's new outputs; None for nothing.
    """

    scale: Tensor | None
    shift: Tensor | None
    rest: Formula | None
    drops_bias: bool = False


def divide(formula: Formula) -> Division:
    """What a convolution, whose outputs only this normalization reads, can take over; the rest is cheaper.

    A batch variance is a factor of the weights. A batch mean is subtracted in the bias, also where it is only one of
    several statistics: squares of what lies about 0 keep their digits.
    """
    f = formula.double()
    zeros, ones = torch.zeros_like(f.weight), torch.ones_like(f.weight)
    if {*f.variances} == {"batch"} and {*f.means} <= {"instance", "batch"}:
        assert f.running_mean is not None
        assert f.running_var is not None
        scale = f.weight * (f.running_var + f.eps).rsqrt()
        if f.constant:
            return Division(scale, f.bias - f.running_mean * scale, None)
        # Afterwards both the deviation and the running mean are known: 1 and 0.
        rest = replace(
            f, eps=0.0, weight=ones, running_mean=zeros, running_var=ones, offset=None
        )
        drops = {*f.means} == {"instance"}
        return Division(scale, None if drops else -f.running_mean * scale, rest, drops)
    if f.running_mean is None or {*f.means, *f.variances} == {"instance"}:
        return Division(None, None, f)
    return Division(None, -f.running_mean, replace(f, offset=f.running_mean))
