"""The modules that compute what of a normalization is no constant, each in its cheapest exact form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.layers.evaluated import Constant, Mixture


class Form(NamedTuple):
    """How a mixture of statistics is computed.

    Attributes:
        constant: what the layer before is to do to its output first, exactly; None for nothing. Only where there is
            such a layer.
        module: of x (N, C, *S) alone, what then gives the normalized x; None where nothing is left to do.
        name: what it is, for reports: "instance norm", "tables of 2 statistics", ...
    """

    constant: Constant | None
    module: nn.Module | None
    name: str


def form(mixture: Mixture, before: bool, size: tuple[int, ...] | None, dims: tuple[int, ...] | None) -> Form:
    """The cheapest exact form of a mixture.

    Args:
        mixture: what is to be computed of x (N, C, *S).
        before: whether a layer before can take up any affine map of the channels at no cost.
        size: of all maps that the module will see, where that is fixed.
        dims: how many dimensions x may have, see `Evaluated`.
    """
    statistics = sorted({*mixture.mean, *mixture.var})
    constant = None
    if before and mixture.running is not None:
        # Small numbers keep their digits when they are squared.
        mean = mixture.running[0]
        constant = Constant(mean, torch.ones_like(mean), torch.zeros_like(mean))
    return Form(constant, Tables(mixture, constant), f"tables of {'+'.join(statistics)}")


class Tables(nn.Module):
    """Any mixture, from the moments of every map.

    Args:
        mixture: what to compute.
        constant: what has been done to x before.
    """

    def __init__(self, mixture: Mixture, constant: Constant | None) -> None:
        super().__init__()
        self.mean, self.var = dict(mixture.mean), dict(mixture.var)
        self.eps, self.unbiased, self.first = mixture.eps, mixture.unbiased, mixture.first
        zeros = torch.zeros_like(mixture.weight)
        running = (zeros, zeros) if mixture.running is None else mixture.running
        centre = zeros if constant is None else constant.centre
        tables = {"weight": mixture.weight, "bias": mixture.bias, "centre": centre}
        tables |= {"running_mean": running[0] - centre, "running_var": running[1]}
        for name, table in tables.items():
            self.register_buffer(name, table.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S), normalized."""
        if self.first < x.shape[1]:
            return torch.cat((self._normalized(x[:, : self.first]), x[:, self.first :]), 1)
        return self._normalized(x)

    def _normalized(self, x: Tensor) -> Tensor:
        over_maps = (..., *(None,) * (x.dim() - 2))
        places = tuple(range(2, x.dim()))
        mean = x.mean(places)
        square = (x - mean[over_maps]).square().sum(places)
        count = x[0, 0].numel()
        var = square / max(count - 1, 1) if self.unbiased else square / count
        true = mean + self.centre
        found = {name: self._statistic(name, true, var) for name in {**self.mean, **self.var}}
        m = sum(share * found[name][0] for name, share in self.mean.items()) - self.centre
        v = sum(share * found[name][1] for name, share in self.var.items())
        scale = (v + self.eps).rsqrt() * self.weight
        return (x - m[over_maps]) * scale[over_maps] + self.bias[over_maps]

    def _statistic(self, name: str, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        if name == "instance":
            return mean, var
        if name == "batch":
            return self.running_mean + self.centre, self.running_var
        groups = 1 if name == "layer" else int(name[6:])
        means, variances = (t.unflatten(1, (groups, -1)) for t in (mean, var))
        centre = means.mean(2, keepdim=True)
        spread = (variances + (means - centre).square()).mean(2, keepdim=True)
        return tuple(t.expand_as(means).flatten(1) for t in (centre, spread))
