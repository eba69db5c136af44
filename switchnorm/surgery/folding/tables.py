"""Any mixture of statistics as tables of each map's moments, and one affine map; as the modules of `modules`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from switchnorm.layers.evaluated import Constant, Mixture
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.surgery.folding.modules import Held, is_exported, over
from switchnorm.surgery.folding.sizes import MapSize

#: Maps of so few places are read twice.
_FEW = 16
#: So are all, in eager mode, where the square of some map's mean is more than so many times what it is divided by:
#: their difference loses digits, as of maps that are nearly constant.
_FAR = 16.0


class Tables(Held):
    """Any mixture: mean and mean square of each map, statistics out of these tables, and one affine map.

    Args:
        mixture: what to compute.
        constant: what has been done to x before.
        size: of all maps, where that is fixed.
    """

    weight: Tensor
    bias: Tensor
    centre: Tensor | None
    fixed_mean: Tensor | None
    fixed_var: Tensor

    def __init__(self, mixture: Mixture, constant: Constant | None, size: MapSize | None) -> None:
        super().__init__()
        self.means, self.variances = dict(mixture.mean), dict(mixture.var)
        self.size, self.unbiased = size, mixture.unbiased
        zeros = torch.zeros_like(mixture.weight)
        centre = zeros if constant is None else constant.centre
        mean, var = (zeros, zeros) if mixture.running is None else mixture.running
        mean = (mean - centre) * self.means.get("batch", 0.0)
        # Statistics of several maps are about x as it was, but for what was subtracted from all maps alike: adding that
        # would cost digits. In the end they are about x as it comes.
        centre = centre - centre.mean()
        others = sum(share for name, share in self.means.items() if name not in ("instance", "batch"))
        mean = mean - centre * others
        pooled = bool({*self.means, *self.variances} - {"instance", "batch"})
        self._hold(
            weight=mixture.weight,
            bias=mixture.bias,
            fixed_mean=mean if mean.any() else None,
            fixed_var=var * self.variances.get("batch", 0.0) + mixture.eps,
            centre=centre if pooled and centre.any() else None,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S), normalized."""
        if self.size is not None:
            self.size.check(x)
        own_mean, own_var = self._moments(x)
        mean, var = self._mixed(x, own_mean, own_var)
        if own_var is not None and _is_eager(x) and bool((own_mean.square() > _FAR * var).any()):
            mean, var = self._mixed(x, *self._moments(x, twice=True))
        if mean is not None and isinstance(math.prod(x.shape[2:]), int) and math.prod(x.shape[2:]) <= _FEW:
            scale = var.to(self.weight.dtype).rsqrt() * self.weight
            return ((x - over(x, mean)) * over(x, scale) + over(x, self.bias)).to(x.dtype)
        if is_exported() or (not torch.compiler.is_compiling() and _merges(x)):
            return self._as_batch(x, mean, var)
        scale = var.to(self.weight.dtype).rsqrt() * self.weight
        shift = self.bias if mean is None else self.bias - mean * scale
        return (x * over(x, scale) + over(x, shift)).to(x.dtype)

    def _as_batch(self, x: Tensor, mean: Tensor | None, var: Tensor) -> Tensor:
        """As batch normalization of a single sample with N C channels: one operation that scales and shifts."""
        samples, channels = x.shape[:2]
        mean = torch.zeros_like(self.bias) if mean is None else mean
        # torch has no gradient of these, and asks for none only where there is one.
        mean, var = (t.detach() if t.requires_grad else t for t in (mean, var))
        tables = (_every(t, samples, channels) for t in (mean, var, self.weight, self.bias))
        flat = x.reshape(1, samples * channels, *x.shape[2:])
        return torch.batch_norm(flat, *_ordered(*tables), False, 0.0, 0.0, False).reshape(x.shape)

    def _moments(self, x: Tensor, *, twice: bool = False) -> tuple[Tensor, Tensor | None]:
        """Mean of each map and the variance as the mixture has it, (N, C); None for what it has no use for.

        Args:
            x: (N, C, *S).
            twice: whether to read x once more for the variance, which then has all its digits.
        """
        dtype = accumulation_dtype(x.dtype)
        if x.dim() == 2:
            return x.to(dtype), None
        dims = tuple(range(2, x.dim()))
        mean = x.mean(dims, dtype=dtype)
        if {*self.variances} == {"batch"}:
            return mean, None
        places: Any = math.prod(x.shape[2:]) if self.size is None else self.size.places
        if twice or (isinstance(places, int) and places <= _FEW):
            # The difference of two large numbers would be all that is left, and eps magnifies it.
            var = (x.to(dtype) - over(x, mean)).square().sum(dims)
            return mean, var / (max(places - 1, 1) if self.unbiased else max(places, 1))
        var = _mean_square(x, dims, places, dtype) - mean.square()
        # The variance of a single value is 0 and no rounding, which otherwise may leave less than nothing.
        return mean, (var * _unbiasing(places) if self.unbiased else var).clamp(min=0)

    def _mixed(self, x: Tensor, mean: Tensor, var: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """The mixtures of means and of variances plus eps, as tables that broadcast against (N, C)."""
        mixed_mean, mixed_var = self.fixed_mean, self.fixed_var
        true = mean if self.centre is None else mean + self.centre
        for name in sorted({*self.means, *self.variances} - {"batch"}):
            of_mean, of_var = mean, var
            if name != "instance":
                groups = 1 if name == "layer" else int(name[6:])
                of_mean, of_var = _pooled(true, var, groups, self.unbiased and x.dim() == 2)
            mixed_mean = _plus(mixed_mean, self.means, name, of_mean)
            mixed_var = _plus(mixed_var, self.variances, name, of_var)
        return mixed_mean, mixed_var


def _unbiasing(places: Any) -> Any:
    """n / (n - 1), and 0 for a single place; also of sizes that are symbols, or tensors as torch.jit.trace has them."""
    if isinstance(places, Tensor):
        return places * (places - 1).clamp(max=1) / (places - 1).clamp(min=1)
    return places * torch.sym_min(places - 1, 1) / torch.sym_max(places - 1, 1)


def _is_eager(x: Tensor) -> bool:
    """Whether values may be looked at."""
    followed = torch.jit.is_tracing() or torch.compiler.is_compiling() or is_exported()
    return type(x) is Tensor and not followed and not x.is_meta and x.device.type == "cpu"


def _every(table: Tensor, samples: Any, channels: int) -> Tensor:
    """A table (N, C), (N, 1) or (C,) as (N C,), in few operations: of each, exporters take their time."""
    if table.dim() == 1:
        return table.repeat(samples)
    return (table if table.shape[1] == channels else table.expand(samples, channels)).reshape(-1)


def _merges(x: Tensor) -> bool:
    """Whether samples and channels can be taken for one dimension at no cost, and nobody asks for a gradient."""
    plain = type(x) is Tensor and not torch.is_grad_enabled() and not torch.jit.is_tracing()
    return plain and x.dim() > 2 and (x.is_contiguous() or len(x) == 1)


def _mean_square(x: Tensor, dims: tuple[int, ...], places: Any, dtype: torch.dtype) -> Tensor:
    """The mean over `dims` of x squared, in `dtype`."""
    if torch.compiler.is_compiling() or is_exported():
        # Norms are slow in ONNX Runtime, and some runtimes have none.
        wide = x if x.dtype == dtype else x.to(dtype)
        return (wide * wide).mean(dims)
    return torch.linalg.vector_norm(x, 2, dims, dtype=dtype).square() / places


def _ordered(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """In the order of `torch.batch_norm`."""
    return weight, bias, mean, var


def _plus(total: Any, shares: Mapping[str, float], name: str, table: Tensor | None) -> Any:
    """The total and a statistic's share."""
    if name not in shares or table is None:
        return total
    part = table if shares[name] == 1 else table * shares[name]
    return part if total is None else total + part


def _pooled(mean: Tensor, var: Tensor | None, groups: int, flat: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance over groups of adjacent channels, tables that broadcast against (N, C)."""
    channels = mean.shape[1]
    width = channels // groups
    lost = width / max(width - 1, 1) if flat else 1.0
    if groups == 1:
        centre = mean.mean(1, keepdim=True)
        spread = (mean - centre).square()
        pooled = (spread if var is None else spread + var).mean(1, keepdim=True)
        return centre, pooled if lost == 1 else pooled * lost
    parts = mean.reshape(-1, groups, width)
    centre = parts.mean(2, keepdim=True)
    spread = (parts - centre).square()
    pooled = (spread if var is None else spread + var.reshape(-1, groups, width)).mean(2, keepdim=True) * lost
    whole = (-1, groups, width)
    return centre.expand(whole).reshape(-1, channels), pooled.expand(whole).reshape(-1, channels)
