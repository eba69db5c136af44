"""Modules that compute a `Formula` in its cheapest exact form, in eager mode and in the runtimes of exported files.

All are called as this library's layers are, `form(x, residual, activation)`, for x (N, C, *S) of any size, save where
`form_of` was given one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switchnorm.ops.moments import accumulation_dtype
from switchnorm.ops.normalize import Activation
from switchnorm.surgery.folding.formula import Formula


def form_of(formula: Formula, size: Sequence[int] | None = None, activation: Activation | None = None) -> nn.Module:
    """The module that computes a formula in the cheapest way.

    Args:
        formula: what to compute.
        size: the sides of its maps where these are always the same; None for any.
        activation: "relu" to end with it.
    """
    places = None if size is None else math.prod(size)
    names = formula.statistics
    if formula.constant:
        return Constant(formula, activation)
    if {*formula.means} == {"instance"} and {*formula.variances} == {"batch"}:
        return Centred(formula, activation)
    if len(names) == 1:
        (name,) = names
        if name == "instance" and (not formula.unbiased or (places is not None and places > 1)):
            return Instance(formula, places, activation)
        if not formula.unbiased and formula.offset is None:
            return Grouped(formula, 1 if name == "layer" else int(name[6:]), activation)
    return Mixed(formula, places, activation)


class Form(nn.Module):
    """What the forms share: numbers as buffers, and how they end."""

    activation: Activation | None

    def __init__(self, formula: Formula, activation: Activation | None) -> None:
        super().__init__()
        self.num_features = formula.channels
        self.activation = activation

    def _hold(self, like: Tensor, **values: Tensor | None) -> None:
        """Keep values as buffers of the dtype of `like`."""
        for name, value in values.items():
            self.register_buffer(name, None if value is None else value.detach().to(like.device, like.dtype))

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """activation(norm(x) + residual) of x (N, C, *S)."""
        y = self._normalized(x)
        if residual is not None:
            y = y + residual
        return F.relu(y) if activation or self.activation else y

    def _normalized(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Constant(Form):
    """Running statistics alone, where no convolution takes them: an affine map of each channel."""

    def __init__(self, formula: Formula, activation: Activation | None = None) -> None:
        super().__init__(formula, activation)
        f = formula.double()
        assert f.running_mean is not None
        mean = f.running_mean if f.offset is None else f.running_mean - f.offset
        self.eps = f.eps
        self._hold(formula.weight, weight=f.weight, bias=f.bias, mean=mean, var=f.running_var)

    def _normalized(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, False, 0.0, self.eps)


class Centred(Form):
    """The mean of each map is subtracted; the deviation is known."""

    def __init__(self, formula: Formula, activation: Activation | None = None) -> None:
        super().__init__(formula, activation)
        f = formula.double()
        assert f.running_var is not None
        scale = f.weight * (f.running_var + f.eps).rsqrt()
        plain = bool((scale == 1).all())
        self._hold(formula.weight, scale=None if plain else scale, bias=f.bias)

    def _normalized(self, x: Tensor) -> Tensor:
        dims = tuple(range(2, x.dim()))
        mean, bias = x.mean(dims, keepdim=True), over(x, self.bias)
        if self.scale is None:
            return x + (bias - mean)
        scale = over(x, self.scale)
        return torch.addcmul(bias - mean * scale, x, scale)


class Instance(Form):
    """Instance statistics alone. An unbiased variance is n / (n - 1) times the other, for maps of n places."""

    def __init__(self, formula: Formula, places: int | None, activation: Activation | None = None) -> None:
        super().__init__(formula, activation)
        f = formula.double()
        assert not f.unbiased or (places is not None and places > 1)
        factor = (places - 1) / places if f.unbiased and places is not None else 1.0
        self.eps = f.eps * factor
        self._hold(formula.weight, weight=f.weight * factor**0.5, bias=f.bias)

    def _normalized(self, x: Tensor) -> Tensor:
        return _instance_norm(x, self.weight, self.bias, self.eps)


class Grouped(Form):
    """Population statistics of groups of channels."""

    def __init__(self, formula: Formula, groups: int, activation: Activation | None = None) -> None:
        super().__init__(formula, activation)
        self.groups, self.eps = groups, formula.eps
        ones = torch.ones_like(formula.weight)
        self._hold(formula.weight, weight=formula.weight, bias=formula.bias, zeros=torch.zeros_like(ones), ones=ones)

    def _normalized(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)
        # ONNX Runtime has no fast group normalization on a CPU; scale and shift as one operation.
        y = _instance_norm(x.reshape(x.shape[0], self.groups, -1), None, None, self.eps)
        return F.batch_norm(y.reshape(x.shape), self.zeros, self.ones, self.weight, self.bias, False, 0.0, 0.0)


class Mixed(Form):
    """Any mixture: mean and mean square of each map, statistics out of these tables, and one affine map.

    Args:
        formula: what to compute.
        places: of each map, where this is always the same.
        activation: as in `Form`.
    """

    def __init__(self, formula: Formula, places: int | None, activation: Activation | None = None) -> None:
        super().__init__(formula, activation)
        f = formula.double()
        self.means, self.variances = dict(f.means), dict(f.variances)
        self.eps, self.places, self.unbiased = f.eps, places, f.unbiased
        running = f.running_mean
        if running is not None and f.offset is not None:
            running = running - f.offset
        fixed_mean = None if running is None or "batch" not in f.means else running * f.means["batch"]
        fixed_var = None if f.running_var is None or "batch" not in f.variances else f.running_var * f.variances["batch"]
        if fixed_mean is not None and not fixed_mean.any():
            fixed_mean = None
        pooled = any(name not in ("instance", "batch") for name in f.statistics)
        self._hold(
            formula.weight,
            weight=f.weight,
            bias=f.bias,
            fixed_mean=fixed_mean,
            fixed_var=f.eps + (0 * f.weight if fixed_var is None else fixed_var),
            offset=f.offset if pooled else None,
        )

    def _normalized(self, x: Tensor) -> Tensor:
        mean, var = self._moments(x)
        mean, var = self._mixed(x, mean, var)
        scale = var.rsqrt() * self.weight
        shift = self.bias - mean * scale
        return torch.addcmul(over(x, shift), x, over(x, scale))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and variance of each map, (N, C); the variance as the formula has it, None where it needs none."""
        dtype = accumulation_dtype(x.dtype)
        if x.dim() == 2:
            return x.to(dtype), None
        dims = tuple(range(2, x.dim()))
        mean = x.mean(dims, dtype=dtype)
        if {*self.variances} == {"batch"}:
            return mean, None
        places: Any = self.places
        if places is None:
            places = math.prod(x.shape[2:])
        norm = torch.linalg.vector_norm(x, 2, dims, dtype=dtype)
        lost = (places - 1 if places > 1 else 1) if self.places is not None else torch.sym_max(places - 1, 1)
        if not self.unbiased:
            lost = places
        var = (norm.square() / lost - mean.square() * (places / lost)).clamp(min=0)
        return mean, var

    def _mixed(self, x: Tensor, mean: Tensor, var: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mixtures of means and of variances plus eps, as tables that broadcast against (N, C)."""
        mixed_mean, mixed_var = self.fixed_mean, self.fixed_var
        true = mean if self.offset is None else mean + self.offset
        for name in sorted({*self.means, *self.variances} - {"batch"}):
            of_mean, of_var = mean, var
            if name != "instance":
                groups = 1 if name == "layer" else int(name[6:])
                centre, of_var = _pooled(true, var, groups, self.unbiased and x.dim() == 2)
                of_mean = centre if self.offset is None else centre - self.offset
            if name in self.means:
                part = of_mean if self.means[name] == 1 else of_mean * self.means[name]
                mixed_mean = part if mixed_mean is None else mixed_mean + part
            if name in self.variances:
                assert of_var is not None
                mixed_var = mixed_var + (of_var if self.variances[name] == 1 else of_var * self.variances[name])
        return torch.zeros_like(self.bias) if mixed_mean is None else mixed_mean, mixed_var


def _pooled(mean: Tensor, var: Tensor | None, groups: int, flat: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance over groups of adjacent channels, broadcastable against (N, C)."""
    channels = mean.shape[1]
    width = channels // groups
    parts = mean.reshape(-1, groups, width)
    centre = parts.mean(2, keepdim=True)
    spread = (parts - centre).square()
    if var is not None:
        spread = spread + var.reshape(-1, groups, width)
    pooled = spread.mean(2, keepdim=True)
    if flat:
        pooled = pooled * (width / max(width - 1, 1))
    if groups == 1:
        return centre.reshape(-1, 1), pooled.reshape(-1, 1)
    return (
        centre.expand(-1, groups, width).reshape(-1, channels),
        pooled.expand(-1, groups, width).reshape(-1, channels),
    )


def over(x: Tensor, table: Tensor) -> Tensor:
    """A table (N, C) or (C,), to broadcast against x (N, C, *S)."""
    return table.reshape(*table.shape, *[1] * (x.dim() - 2))


def _instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    # Past torch.nn.functional, which refuses maps of a single value.
    return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, False)
