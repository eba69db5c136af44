"""What a normalization computes in evaluation, as numbers: what folding needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


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
        mean, var = exact(mean), exact(var)
        scale = (var + eps).rsqrt()
        if weight is not None:
            scale = scale * exact(weight)
        shift = torch.zeros_like(mean) if bias is None else exact(bias)
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
        running: mean and variance, (C,) in float64, that are "batch"; also where that has no share, if they are known,
            for they tell how far from 0 the input lies.
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


def batch_normalization(layer: Any) -> Evaluated | str:
    """What a layer with torch's `running_mean`, `running_var`, `weight`, `bias` and `eps` computes.

    Returns:
        That, or why it is not known before a batch is.
    """
    mean, var = layer.running_mean, layer.running_var
    if mean is None or var is None:
        return OWN_BATCH
    constant = Constant.normalizing(mean, var, eps_of(layer), layer.weight, layer.bias)
    return Evaluated(len(mean), constant, None, dims_of(layer), getattr(layer, "activation", None))


def instance_normalization(layer: Any) -> Evaluated | str:
    """What torch.nn.InstanceNorm computes, which may keep running statistics; see `batch_normalization`."""
    if layer.track_running_stats:
        return batch_normalization(layer)
    weight, bias = affine_of(layer, layer.num_features)
    shares = {"instance": 1.0}
    mixture = Mixture(shares, shares, None, layer.eps, weight, bias, False, layer.num_features)
    return Evaluated(layer.num_features, None, mixture, dims_of(layer))


def group_normalization(layer: Any) -> Evaluated | str:
    """What torch.nn.GroupNorm computes."""
    weight, bias = affine_of(layer, layer.num_channels)
    shares = {pool_of(layer.num_groups, layer.num_channels): 1.0}
    mixture = Mixture(shares, shares, None, layer.eps, weight, bias, False, layer.num_channels)
    return Evaluated(layer.num_channels, None, mixture, dims_of(layer), getattr(layer, "activation", None))


#: Why what a layer computes is not known before a batch is.
OWN_BATCH = "it keeps no running statistics, and normalizes by those of its own batch in evaluation too"


def affine_of(layer: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Scale and shift of a layer, (C,) in float64; 1 and 0 where it has none."""
    weight, bias = layer.weight, layer.bias
    ones = torch.ones(channels, dtype=torch.float64) if weight is None else exact(weight)
    return ones, torch.zeros_like(ones) if bias is None else exact(bias)


def exact(t: Tensor) -> Tensor:
    """A copy of a tensor in float64 on the CPU, without its gradient."""
    return t.detach().to("cpu", torch.float64, copy=True)


def pool_of(groups: int, channels: int) -> str:
    """The name of the statistic over a number of groups of channels."""
    return {channels: "instance", 1: "layer"}.get(groups, f"group:{groups}")


def eps_of(layer: Any) -> float:
    """What a layer adds to its variance, as a plain number."""
    return float(layer.eps)


def dims_of(layer: Any) -> tuple[int, ...] | None:
    """How many dimensions the input of a layer may have, see `Evaluated`."""
    own: tuple[int, ...] | None = getattr(layer, "input_dims", None)
    unbatched: int | None = getattr(layer, "unbatched_dims", None)
    if own is None:
        own = next((dims for classes, dims in _DIMS if isinstance(layer, classes)), None)
    return None if own is None else tuple(sorted({*own, *(() if unbatched is None else (unbatched,))}))


_DIMS: tuple[tuple[tuple[type[nn.Module], ...], tuple[int, ...]], ...] = (
    ((nn.BatchNorm1d,), (2, 3)),
    ((nn.BatchNorm2d,), (4,)),
    ((nn.BatchNorm3d,), (5,)),
    ((nn.InstanceNorm1d,), (2, 3)),
    ((nn.InstanceNorm2d,), (3, 4)),
    ((nn.InstanceNorm3d,), (4, 5)),
)
