"""What a module is among normalizations: a layer of a registered normalizer, of another library's, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from switchnorm.layers import foreign
from switchnorm.layers.frozen import frozen_dims
from switchnorm.layers.made import made_by
from switchnorm.layers.registry import Norm, by_class, find, on_change, registered


@dataclass(frozen=True)
class Kind:
    """What `kind_of` finds out about a normalization.

    Attributes:
        norm: the normalizer that it is; None for one that stands for none, such as LayerNorm, or what a class or
            function made that nobody registered.
        base: the class that defines what such layers compute; None where that is known by structure alone.
        own: whether the normalizer's registration makes such layers; else another library does.
        dims: spatial dimensions of the input, where the class tells.
        frozen: whether it normalizes by constants, also in training.
    """

    norm: Norm | None
    base: type[nn.Module] | None
    own: bool = False
    dims: int | None = None
    frozen: bool = False


def kind_of(module: nn.Module) -> Kind | None:
    """What a module is among normalizations; None for everything else.

    A class that is registered tells by itself, and else a layer remembers which normalizer made it. Other classes count
    as the nearest of their bases that is known; whether they compute the same is not looked at.
    """
    cls = type(module)
    made = made_by(module)
    if made is not None and made.norm is not None and by_class(cls) is None and (norm := registered(made.norm)):
        return Kind(norm, cls, own=True, dims=made.dims)
    if cls not in _known:
        _known[cls] = _kind_of_class(cls)
    kind = _known[cls]
    if kind is None and (dims := frozen_dims(module)) is not None:
        return Kind(find(foreign.FROZEN), None, dims=dims, frozen=True)
    return Kind(None, cls, dims=made.dims) if kind is None and made is not None else kind


# Training asks for every module of a network in every step.
_known: dict[type[nn.Module], Kind | None] = {}
on_change.append(_known.clear)


def _kind_of_class(cls: type[nn.Module]) -> Kind | None:
    for base in cls.__mro__:
        norm = by_class(base)
        if norm is not None:
            return Kind(norm, base, own=True, dims=norm.dims_of(base))
        if base in foreign.STAND_INS:
            name, dims = foreign.STAND_INS[base]
            return Kind(find(name), base, dims=dims)
    return Kind(None, None) if issubclass(cls, foreign.OTHERS) else None


def norm_of(module: nn.Module) -> Norm | None:
    """The normalizer whose own layer a module is; None for all others, also for other libraries' layers."""
    kind = kind_of(module)
    return kind.norm if kind is not None and kind.own else None


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether a module, apart from those inside of it, takes statistics of the batch in training."""
    kind = kind_of(module)
    if kind is not None and kind.frozen:
        return False
    declared = None if kind is None or kind.norm is None else kind.norm.batch_statistics
    told = declared(module) if callable(declared) else declared
    # What a normalizer does not do, a subclass with a forward of its own may.
    if told or (told is not None and not overrides(module, kind.base if kind is not None else None)):
        return told
    return any(isinstance(buffer_of(module, name), Tensor) for name in ("running_mean", "running_var"))


def buffer_of(module: nn.Module, name: str) -> Tensor | None:
    """A buffer of a module; None where there is none of this name."""
    # Those of TorchScript modules have no `get`.
    return module._buffers[name] if name in module._buffers else None  # noqa: SIM401


def overrides(module: nn.Module, base: type[nn.Module] | None, method: str = "forward") -> bool:
    """Whether `method` of `module` is another than that of `base`, by its class or on the object itself."""
    return base is not None and (method in vars(module) or getattr(type(module), method) is not getattr(base, method))


def channels_of(norm: Any) -> int | None:
    """The number of channels that a normalization takes; None where nothing tells."""
    if isinstance(norm, nn.Module) and (made := made_by(norm)):
        return made.channels
    for name in ("num_features", "num_channels"):
        if isinstance(getattr(norm, name, None), int):
            return int(getattr(norm, name))
    shape = getattr(norm, "normalized_shape", ())
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    weight = getattr(norm, "weight", None)
    # A single number may be shared by all channels.
    return len(weight) if isinstance(weight, Tensor) and weight.dim() == 1 and len(weight) > 1 else None


def scale_of(norm: nn.Module) -> nn.Parameter | None:
    """The parameter that multiplies the output of a normalization; None where there is none."""
    kind = kind_of(norm)
    name = "weight" if kind is None or kind.norm is None else kind.norm.scale
    return norm._parameters.get(name)
