"""What a normalization computes in evaluation, as numbers: what folding, and whoever rebuilds a network, needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Constant:
    """An affine map of the channels: (x - centre) * scale + shift.

    Attributes:
        centre, scale, shift: (C,) in float64.
    """

    centre: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def normalizing(
        cls, mean: Tensor, var: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Constant:
        """(x - mean) / sqrt(var + eps) * weight + bias, each (C,)."""
        mean, var = mean.detach().double(), var.detach().double()
        scale = (var + eps).rsqrt()
        if weight is not None:
            scale = scale * weight.detach().double()
        shift = torch.zeros_like(mean) if bias is None else bias.detach().double()
        return cls(mean, scale, shift)

    @property
    def offset(self) -> Tensor:
        """(C,), with which the map is x * scale + offset."""
        return self.shift - self.centre * self.scale

    def then(self, other: Constant) -> Constant:
        """This map, and after it another."""
        return Constant(self.centre, self.scale * other.scale, (self.shift - other.centre) * other.scale + other.shift)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A normalization of x (N, C, *S) by statistics of x: (x - mean) / sqrt(var + eps) * weight + bias.

    Attributes:
        mean, var: the share of every statistic, those above 0, summing to 1. Statistics are "instance", "layer",
            "group:G", and "batch" for the running ones.
        running: mean and variance, (C,) in float64, that are "batch"; None where that has no share.
        eps: added to the variance.
        weight, bias: (C,) in float64.
        unbiased: whether variances are SN's published ones: those within a map are divided by one less than its size
            (where that is above 1), and all others are derived from these; else population variances.
        first: how many channels, from the first, this is done to; the others stay as they are.
    """

    mean: Mapping[str, float]
    var: Mapping[str, float]
    running: tuple[Tensor, Tensor] | None
    eps: float
    weight: Tensor
    bias: Tensor
    unbiased: bool
    first: int


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a normalization computes in evaluation: a map by constants, and then a normalization of what comes out.

    Attributes:
        channels: C.
        constant: the map; None for none.
        mixture: the normalization; None for none.
        dims: how many dimensions an input may have, batch and channels among them; None where nothing tells.
        ends: the activation that follows: "relu" or None.
    """

    channels: int
    constant: Constant | None
    mixture: Mixture | None
    dims: tuple[int, ...] | None
    ends: str | None = None
