"""The modules that a copy has where something was left to compute; any mixture is one of `tables`.

Each has one forward pass for eager mode and for the runtimes of exported files, save where they differ in what is
cheap. All take batches, x (N, C, *S), also channels-last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switchnorm.layers.evaluated import Mixture
from switchnorm.layers.opaque import Opaque
from switchnorm.ops import normalize
from switchnorm.ops.kernels.choice import takes_torch
from switchnorm.ops.torchs import channels_last, contiguous, group_norm_is_fast
from switchnorm.surgery.folding.sizes import MapSize

#: Added to a variance of 1 it leaves 1, in any type of numbers; some versions of PyTorch (2.11) refuse 0.
NO_EPS = 2.0**-100


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
        if is_exported():
            return self._exported(x)
        if torch.compiler.is_compiling() or takes_torch(x, fast=group_norm_is_fast):
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
        return F.batch_norm(y, self.zeros, self.ones, self.weight.detach(), self.bias.detach(), False, 0.0, NO_EPS)


def is_exported() -> bool:
    """Whether the operations are those of a file for another runtime, rather than to be run here or compiled."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def over(x: Tensor, table: Tensor) -> Tensor:
    """A table (N, C), (N, 1) or (C,), to broadcast against x (N, C, *S)."""
    return table.reshape(*table.shape, *[1] * (x.dim() - 2))


def _instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    # Past torch.nn.functional, which refuses maps of a single value.
    return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, False)
