"""Which convolutions can have standardized weights, and making one of a plain one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from switchnorm.layers.kinds import overrides
from switchnorm.layers.weight_standardized import CONV, WS_CONV, fan_in


def standardize(conv: _ConvNd) -> None:
    """Make a plain convolution one with weight standardization.

    The class changes and not the object, for the two differ in `forward` alone: whatever refers to the module (other
    names, hooks, lists, optimizers) stays valid, and there is no state to carry over.
    """
    conv.__class__ = standardized_class(type(conv))


def standardized_class(cls: type[_ConvNd]) -> type[_ConvNd]:
    """The class of a convolution of class `cls` once its weights are standardized, with all methods of `cls`."""
    dims = next(dims for dims, plain in CONV.items() if issubclass(cls, plain))
    if cls is CONV[dims]:
        return WS_CONV[dims]
    if cls not in _subclasses:
        _subclasses[cls] = _subclass(cls, WS_CONV[dims])
    return _subclasses[cls]


# One for each class, so that copies and pickles are of the same.
_subclasses: dict[type[_ConvNd], type[_ConvNd]] = {}


def _subclass(cls: Any, base: type[_ConvNd]) -> Any:
    def reduce(self: Any, protocol: Any) -> Any:
        # A class made here cannot be found again by its name.
        return _blank, (cls,), object.__reduce_ex__(self, max(int(protocol), 2))[2]

    return type(cls)(f"WS{cls.__name__}", (base, cls), {"__reduce_ex__": reduce, "__module__": cls.__module__})


def _blank(cls: type[_ConvNd]) -> _ConvNd:
    """A standardized convolution to which its state is still to be given."""
    made = standardized_class(cls)
    return made.__new__(made)


def conv_refusal(conv: _ConvNd) -> str | None:
    """Why the weights of a convolution cannot be standardized from now on; None where they can."""
    if isinstance(conv, tuple(WS_CONV.values())):
        return "already standardized"
    if isinstance(conv, _ConvTransposeNd):
        return "transposed"
    if isinstance(conv, LazyModuleMixin):
        return "lazy and not initialised; run a batch first"
    if is_parametrized(conv):
        return "its parameters are parametrized"
    if not isinstance(conv._parameters.get("weight"), nn.Parameter):
        return "its weight is computed by a hook, as of weight_norm, spectral_norm or pruning"
    plain = CONV[len(conv.kernel_size)]
    if overrides(conv, plain) or overrides(conv, plain, "_conv_forward"):
        return f"{type(conv).__name__} has a forward of its own"
    if fan_in(conv) == 1:
        return "a single weight per output cannot be standardized"
    if not _can_subclass(type(conv), plain):
        return f"{type(conv).__name__} cannot be given another class and keep its methods"
    if not conv.weight.is_meta and _constant_outputs(conv).all():
        return "its weights are constant, and would be 0 when standardized, and without a useful gradient"
    return None


def conv_remark(conv: _ConvNd) -> str:
    """What the plan adds about a convolution that will be standardized."""
    subclass = type(conv) is not CONV[len(conv.kernel_size)]
    kept = f"; keeps the methods of {type(conv).__name__}" if subclass else ""
    constant = 0 if conv.weight.is_meta else int(_constant_outputs(conv).sum())
    if not constant:
        return kept
    return f"{kept}; {constant} of {conv.out_channels} outputs have constant weights, which become 0"


@torch.no_grad()
def _constant_outputs(conv: _ConvNd) -> torch.Tensor:
    """(out_channels,): whether all weights of an output are equal."""
    rows = conv.weight.flatten(1)
    return (rows == rows[:, :1]).all(1)


def _can_subclass(cls: type[_ConvNd], plain: type[nn.Module]) -> bool:
    """Whether a class can stay a base of the new one, and its modules are copied and pickled as any object is."""
    if cls is plain:
        return True
    copied = cls.__reduce_ex__ is object.__reduce_ex__ and cls.__reduce__ is object.__reduce__
    if not copied or hasattr(cls, "__deepcopy__") or cls.__basicsize__ != plain.__basicsize__:
        return False
    try:
        standardized_class(cls)
    except Exception:  # What others do when a subclass is made may raise anything.
        return False
    return True
