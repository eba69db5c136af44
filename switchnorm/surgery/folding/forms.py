"""The modules that compute what of a normalization is no constant, each in its cheapest exact form.

Each has one forward pass for eager mode and for the runtimes of exported files, save where they differ in what is
cheap. All take batches, x (N, C, *S), also channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switchnorm.layers.evaluated import Constant, Mixture
from switchnorm.layers.opaque import Opaque
from switchnorm.ops import normalize
from switchnorm.ops.kernels.choice import takes_torch
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.ops.torchs import channels_last, contiguous, group_norm_is_good
from switchnorm.surgery.folding.sizes import MapSize


class Form(NamedTuple):
    """How a mixture of statistics is computed.

    Attributes:
        constant: what the layer before is to do to its output first, exactly; None for nothing. Only where there is
            such a layer.
        module: of x (N, C, *S) alone, what then gives the normalized x.
        name: what it is, for reports: "instance norm", "tables of 2 statistics", ...
    """

    constant: Constant | None
    module: nn.Module
    name: str


def form(mixture: Mixture, before: bool, size: MapSize | None) -> Form:
    """The cheapest exact form of a mixture.

    Args:
        mixture: what is to be computed of x (N, C, *S).
        before: whether a layer before can take up any affine map of the channels at no cost.
        size: of all maps that the module will see, where that is fixed.
    """
    if mixture.first < len(mixture.weight):
        # What becomes of the first channels is nothing to the others, and the layer before knows all of them.
        module = _module(_only(mixture), size)
        of_first = f"{_name(mixture, module)} of the first channels"
        return Form(None, First(mixture.first, module), of_first)
    constant = _aside(mixture)
    if constant is not None and before and _is_centring(mixture):
        # Afterwards both are known: mean 0, and the deviation that there is to be.
        ones, zeros = torch.ones_like(constant.centre), torch.zeros_like(constant.centre)
        mixture = replace(mixture, running=(zeros, ones), eps=0.0, weight=ones)
    elif _is_centring(mixture):
        constant = None
    module = _module(mixture, size, constant)
    name = _name(mixture, module)
    if constant is None or before:
        return Form(constant, module, name)
    # Nobody before takes the mean off, so that the tables do, at the cost of a pass.
    return Form(None, nn.Sequential(Less(constant.centre), module) if isinstance(module, Tables) else module, name)


def _aside(mixture: Mixture) -> Constant | None:
    """What is better done to x before a mixture is computed; None for nothing."""
    if mixture.running is None:
        return None
    mean, var = mixture.running
    if _is_centring(mixture):
        return Constant.normalizing(mean, var, mixture.eps, mixture.weight)
    if mixture.unbiased or len({*mixture.mean, *mixture.var}) > 1:
        # Small numbers keep their digits when they are squared.
        return Constant(mean, torch.ones_like(mean), torch.zeros_like(mean))
    return None


def _is_centring(mixture: Mixture) -> bool:
    """Whether the deviation is a constant, and no mean is of several maps."""
    return {*mixture.var} == {"batch"} and {*mixture.mean} <= {"instance", "batch"}


def _only(mixture: Mixture) -> Mixture:
    """The mixture as one of its first channels, that knows of no others."""
    n = mixture.first
    running = None if mixture.running is None else (mixture.running[0][:n], mixture.running[1][:n])
    return replace(mixture, running=running, weight=mixture.weight[:n], bias=mixture.bias[:n])


def _name(mixture: Mixture, module: nn.Module) -> str:
    """What a form is called in a report."""
    names = sorted({*mixture.mean, *mixture.var})
    if isinstance(module, Centred):
        return "centring"
    if isinstance(module, GroupNorm):
        return f"{'group' if names[0].startswith('group:') else names[0]} norm"
    return f"tables of {'+'.join(names)}"


def _module(mixture: Mixture, size: MapSize | None, constant: Constant | None = None) -> nn.Module:
    """What computes a mixture of x, to which a constant has been done."""
    names = {*mixture.mean, *mixture.var}
    if _is_centring(mixture):
        return Centred(mixture)
    if len(names) == 1:
        (name,) = names
        if name == "instance" and (not mixture.unbiased or (size is not None and size.places > 1)):
            return GroupNorm(mixture, len(mixture.weight), size if mixture.unbiased else None)
        if name not in ("instance", "batch") and not mixture.unbiased:
            return GroupNorm(mixture, 1 if name == "layer" else int(name[6:]), None)
    return Tables(mixture, constant, size)


#: Maps of so few places are read twice.
_FEW = 16
#: So are all, in eager mode, where the square of some map's mean is more than so many times what it is divided by:
#: their difference loses digits, as of maps that are nearly constant.
_FAR = 16.0


class Held(Opaque):
    """A module that holds constants."""

    def _hold(self, **values: Tensor | None) -> None:
        for name, value in values.items():
            self.register_buffer(name, None if value is None else value.detach().clone())


class First(nn.Module):
    """Something done to the first channels, of which the others know nothing.

    Args:
        channels: how many.
        module: what is done to them.
    """

    def __init__(self, channels: int, module: nn.Module) -> None:
        super().__init__()
        self.channels, self.module = channels, module

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S), some of it normalized."""
        return torch.cat((self.module(x[:, : self.channels]), x[:, self.channels :]), 1)


class Less(Held):
    """The running mean of each channel is subtracted.

    Args:
        centre: (C,).
    """

    centre: Tensor

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self._hold(centre=centre)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S), less the means."""
        return x - over(x, self.centre)


class Centred(Held):
    """A share of each map's own mean is subtracted; the deviation is known."""

    scale: Tensor | None
    shift: Tensor

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        assert mixture.running is not None
        mean, var = mixture.running
        scale = mixture.weight * (var + mixture.eps).rsqrt()
        self.share = mixture.mean.get("instance", 0.0)
        plain = bool((scale == 1).all())
        shift = mixture.bias - scale * mean * mixture.mean.get("batch", 0.0)
        self._hold(scale=None if plain else scale, shift=shift)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S), normalized."""
        mean = over(x, x.mean(tuple(range(2, x.dim()))))
        if self.share != 1:
            mean = mean * self.share
        shift = over(x, self.shift)
        if self.scale is None:
            return x + (shift - mean)
        scale = over(x, self.scale)
        return x * scale + (shift - mean * scale)


class GroupNorm(Held):
    """Statistics of groups of channels alone, as ready-made kernels compute them.

    Args:
        mixture: what to compute.
        groups: how many; as many as channels are instance statistics.
        size: of all maps, where the variance is unbiased. That of n places is n / (n - 1) times the other, and so is
            what is added to it.
    """

    weight: Tensor
    bias: Tensor
    zeros: Tensor
    ones: Tensor

    def __init__(self, mixture: Mixture, groups: int, size: MapSize | None) -> None:
        super().__init__()
        factor = 1.0 if size is None else (size.places - 1) / size.places
        self.groups, self.eps, self.size = groups, mixture.eps * factor, size
        ones = torch.ones_like(mixture.weight)
        self._hold(weight=mixture.weight * factor**0.5, bias=mixture.bias)
        if groups != len(ones):
            self._hold(zeros=torch.zeros_like(ones), ones=ones)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S), normalized."""
        if self.size is not None:
            self.size.check(x)
        if _is_exported():
            return self._exported(x)
        if torch.compiler.is_compiling() or takes_torch(x, group_norm_is_good):
            given = contiguous(x)
            # Past torch.nn.functional, which refuses maps of a single value.
            y = torch.group_norm(given, self.groups, self.weight, self.bias, self.eps)
            return y if given is x else channels_last(y)
        name = f"group:{self.groups}"
        return normalize(x, (name,), weight=self.weight, bias=self.bias, eps=self.eps, unbiased=False).y

    def _exported(self, x: Tensor) -> Tensor:
        # The format's own group normalization is many times slower in ONNX Runtime on a CPU.
        if self.groups == x.shape[1]:
            return _instance_norm(x, self.weight, self.bias, self.eps)
        y = _instance_norm(x.reshape(x.shape[0], self.groups, -1), None, None, self.eps).reshape(x.shape)
        return F.batch_norm(y, self.zeros, self.ones, self.weight.detach(), self.bias.detach(), False, 0.0, 0.0)


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
        if _is_exported() or (not torch.compiler.is_compiling() and _merges(x)):
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


def _is_exported() -> bool:
    """Whether the operations are those of a file for another runtime, rather than to be run here or compiled."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def _is_eager(x: Tensor) -> bool:
    """Whether values may be looked at."""
    followed = torch.jit.is_tracing() or torch.compiler.is_compiling() or _is_exported()
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
    if torch.compiler.is_compiling() or _is_exported():
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


def over(x: Tensor, table: Tensor) -> Tensor:
    """A table (N, C), (N, 1) or (C,), to broadcast against x (N, C, *S)."""
    return table.reshape(*table.shape, *[1] * (x.dim() - 2))


def _instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    # Past torch.nn.functional, which refuses maps of a single value.
    return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, False)
