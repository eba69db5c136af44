"""What of a normalization is no constant, in its cheapest exact form: which module computes it, what goes before."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from switchnorm.layers.evaluated import Constant, Mixture
from switchnorm.surgery.folding.modules import Centred, First, GroupNorm, Less
from switchnorm.surgery.folding.sizes import MapSize
from switchnorm.surgery.folding.tables import Tables


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
