"""Convolutions and linear layers that take up an affine map of what they give or are given."""

from __future__ import annotations

import contextlib
import copy
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from switchnorm.layers.evaluated import Constant, exact
from switchnorm.layers.kinds import overrides
from switchnorm.layers.weight_standardized import CONV, WS_CONV, _WSConv
from switchnorm.ops import standardize_weight

Layer: TypeAlias = "_ConvNd | nn.Linear"
_TRANSPOSED: dict[int, type[_ConvNd]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def outputs_of(layer: Layer) -> int:
    """The channels that a layer gives."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def weight_refusal(layer: Layer) -> str | None:
    """Why a layer cannot be given another weight; None where it can."""
    if isinstance(layer, LazyModuleMixin):
        return "is lazy and not initialised"
    if is_parametrized(layer):
        return "has parametrized weights"
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        return "has a weight that a hook computes, as of weight_norm, spectral_norm or pruning"
    if layer._parameters.get("bias") is None and getattr(layer, "bias", None) is not None:
        return "has a bias that is no parameter"
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return "has hooks" if any(hooks) else None


def output_refusal(layer: Layer) -> str | None:
    """Why a layer cannot take up an affine map of its outputs; None where it can."""
    if (why := weight_refusal(layer)) is not None:
        return why
    if _computes_plainly(layer) or _is_linear_in_weight(layer):
        return None
    return f"is a {type(layer).__name__}, which computes more than {_plain(layer).__name__} with its weight"


def input_refusal(layer: Layer, constant: Constant) -> str | None:
    """Why a layer cannot take up an affine map of its inputs; None where it can."""
    if (why := weight_refusal(layer)) is not None:
        return why
    if not _computes_plainly(layer):
        return f"is a {type(layer).__name__}, which computes more than {_plain(layer).__name__}"
    if isinstance(layer, nn.Linear) or not bool(constant.offset.any()):
        return None
    if isinstance(layer, _ConvTransposeNd):
        return "is transposed, so that a shift of its input is none of its output at the borders"
    # What repeats values of the input repeats their shift.
    if layer.padding_mode == "zeros" and (layer.padding == "same" or any(p != 0 for p in _paddings(layer))):
        return "pads with zeros, so that a shift of its input is none of its output at the borders"
    return None


def _paddings(conv: _ConvNd) -> tuple[int, ...]:
    return () if isinstance(conv.padding, str) else tuple(conv.padding)


class Folded:
    """What is folded into a layer, until a copy of the layer is given it.

    Args:
        layer: not changed by this; one with weight standardization becomes plain.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self._after: list[Constant] = []
        self._before: list[Constant] = []

    def after(self, constant: Constant) -> None:
        """Let the layer's output be followed by a map of its channels."""
        self._after.append(constant)

    def before(self, constant: Constant) -> None:
        """Let the layer's input be preceded by a map of its channels."""
        self._before.append(constant)

    def computed(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias that do all of it, in float64."""
        held = self.layer._parameters["weight"]
        assert held is not None
        weight = standardize_weight(exact(held)) if isinstance(self.layer, _WSConv) else exact(held)
        bias = None if self.layer.bias is None else exact(self.layer.bias)
        for constant in self._before:
            weight, shift = _preceded(self.layer, weight, constant)
            if shift is not None:
                bias = shift if bias is None else bias + shift
        for constant in self._after:
            weight = _followed(self.layer, weight, constant.scale)
            start = torch.zeros_like(constant.scale) if bias is None else bias
            bias = (start - constant.centre) * constant.scale + constant.shift
        return weight, bias

    def install(self, twin: Any) -> None:
        """Give a copy of the layer what was folded."""
        weight, bias = self.computed()
        old: Tensor = twin._parameters["weight"]
        trains = old if twin.bias is None else twin.bias
        if isinstance(twin, _WSConv):
            twin.__class__ = unstandardized(type(twin))
            twin.__dict__.pop("_kept", None)
        twin._parameters["weight"] = nn.Parameter(torch.empty_like(old).copy_(weight), old.requires_grad)
        if bias is not None:
            twin._parameters["bias"] = nn.Parameter(bias.to(old.device, old.dtype), trains.requires_grad)


def _followed(layer: Layer, weight: Tensor, scale: Tensor) -> Tensor:
    """The weight of a layer whose output channels are multiplied."""
    if isinstance(layer, _ConvTransposeNd):
        parts = weight.unflatten(0, (layer.groups, -1))  # (G, C_in / G, C_out / G, ...)
        return (parts * _over(scale.view(layer.groups, 1, -1), parts)).flatten(0, 1)
    return weight * _over(scale, weight)


def _preceded(layer: Layer, weight: Tensor, constant: Constant) -> tuple[Tensor, Tensor | None]:
    """The weight of a layer whose input channels are mapped, and what that adds to its bias."""
    scale, offset = constant.scale, constant.offset
    if isinstance(layer, nn.Linear):
        return weight * scale, weight @ offset
    if isinstance(layer, _ConvTransposeNd):
        return weight * _over(scale, weight), None
    parts = weight.unflatten(0, (layer.groups, -1))  # (G, C_out / G, C_in / G, ...)
    shift = (parts * _over(offset.view(layer.groups, 1, -1), parts)).flatten(2).sum(2).flatten()
    return (parts * _over(scale.view(layer.groups, 1, -1), parts)).flatten(0, 1), shift


def unstandardized(cls: Any) -> Any:
    """The class of a convolution without its weight standardization, with all other methods of `cls`."""
    dims = next(dims for dims, standardized in WS_CONV.items() if issubclass(cls, standardized))
    if cls is WS_CONV[dims]:
        return CONV[dims]
    # One that a switch has made is of a class of others too.
    return next(base for base in cls.__mro__ if issubclass(base, CONV[dims]) and not issubclass(base, _WSConv))


def standardizes_plainly(conv: _WSConv) -> bool:
    """Whether a convolution does nothing else with its weight than to standardize it."""
    cls = WS_CONV[len(conv.kernel_size)]
    same = not overrides(conv, cls) and not overrides(conv, cls, "_standardized")
    return same and not overrides(conv, cls, "_conv_forward")


def _plain(layer: Layer) -> type[nn.Module]:
    if isinstance(layer, nn.Linear):
        return nn.Linear
    classes = _TRANSPOSED if isinstance(layer, _ConvTransposeNd) else CONV
    return classes[len(layer.kernel_size)]


def _computes_plainly(layer: Layer) -> bool:
    """Whether a layer computes what torch's does, with its weight or with that standardized."""
    if isinstance(layer, _WSConv):
        return standardizes_plainly(layer)
    plain = _plain(layer)
    return not overrides(layer, plain) and (plain is nn.Linear or not _transforms(layer, plain))


def _transforms(layer: Layer, plain: type[nn.Module]) -> bool:
    return hasattr(plain, "_conv_forward") and overrides(layer, plain, "_conv_forward")


@torch.no_grad()
def _is_linear_in_weight(layer: Any) -> bool:
    """Whether a layer with a forward pass of its own, such as timm's with TensorFlow's padding, turns a map of the rows
    of its weight into that of its channels; looked at by values.
    """
    with contextlib.suppress(Exception):  # The code of others may raise anything.
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            # Of both signs, and large: an activation, or a bound, must show.
            return torch.randn(shape, generator=generator, dtype=torch.float64) * 10

        weight, scale, shift = random(*layer.weight.shape), random(outputs_of(layer)), random(outputs_of(layer))
        if isinstance(layer, nn.Linear):
            x, places = random(2, layer.in_features), 0
        else:
            reach = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
            sides = [dilation * (kernel - 1) + 1 + 2 * stride for kernel, dilation, stride in reach]
            x, places = random(2, layer.in_channels, *sides), len(sides)
        over = (None, ..., *(None,) * places)
        folded = Folded(_twin(layer, weight, torch.zeros_like(shift)))
        folded.after(Constant(torch.zeros_like(shift), scale, shift))
        expected = _twin(layer, weight, torch.zeros_like(shift)).forward(x) * scale[over] + shift[over]
        none = _twin(layer, weight, None).forward(x) * scale[over] + shift[over]
        found = _twin(layer, *folded.computed()).forward(x)
        return torch.allclose(found, expected, 1e-9, 1e-9) and torch.allclose(none, expected, 1e-9, 1e-9)
    return False


def _twin(layer: Any, weight: Tensor, bias: Tensor | None) -> Any:
    """A layer with another weight and bias, in evaluation mode."""
    twin = object.__new__(type(layer))
    for name, value in vars(layer).items():
        vars(twin)[name] = copy.copy(value) if isinstance(value, (dict, list, set)) else value
    parameters = {"weight": nn.Parameter(weight.clone()), "bias": None if bias is None else nn.Parameter(bias)}
    vars(twin).update(_parameters={**layer._parameters, **parameters}, training=False)
    return twin


def _over(per_channel: Tensor, weight: Tensor) -> Tensor:
    """A table of the first dimensions of a weight, to multiply it with."""
    return per_channel.view(*per_channel.shape, *(1,) * (weight.dim() - per_channel.dim()))
