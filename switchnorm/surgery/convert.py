"""Making one normalization layer from another, and a standardized convolution from a plain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError, unknown
from switchnorm.layers.registry import WS_CONV, Spec
from switchnorm.surgery.kinds import OURS, apply_tail, batch_sync, channels, has_tail

_BATCH_OPTIONS = ("eps", "momentum", "track_running_stats", "ghost", "sync")
_OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gn", "in", "ln"), ("eps",)),
    "bn": _BATCH_OPTIONS,
    "sn": (*_BATCH_OPTIONS, "statistics"),
    "ssn": (*_BATCH_OPTIONS, "statistics", "centre"),
}

_RUNNING = ("running_mean", "running_var", "num_batches_tracked")
_MIXING = ("mean_weight", "var_weight", "radius", "mean_fixed", "var_fixed")
_HOOKS = (
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook"),
)


def standardize(conv: _ConvNd) -> None:
    """Make a plain convolution one with weight standardization.

    The class changes and not the object, for the two differ in `forward` alone: whatever refers to the module (other
    names, hooks, lists, optimizers) stays valid, and there is no state to carry over.
    """
    conv.__class__ = WS_CONV[len(conv.kernel_size)]


def check_options(spec: Spec, options: dict[str, Any]) -> None:
    """Raise `InputError` for an option that the layers of `spec` do not have or that surgery decides itself."""
    for name in options:
        if name not in _OPTIONS[spec.norm]:
            raise unknown(f"option of {spec.norm!r}", name, _OPTIONS[spec.norm])


@dataclass(frozen=True)
class Recipe:
    """A new normalization layer, without its state.

    Attributes:
        spec: the normalization.
        channels: C.
        dims: spatial dimensions.
        settings: the other arguments, save `affine`, `device` and `dtype`.
    """

    spec: Spec
    channels: int
    dims: int
    settings: dict[str, Any]

    @classmethod
    def replacing(cls, old: nn.Module, spec: Spec, dims: int, flat: bool, options: dict[str, Any]) -> Recipe:
        """The layer of `spec` that takes the place of `old`, with the settings that both know and with `options`.

        Args:
            old: a layer that switches.
            spec: what to switch to.
            dims: spatial dimensions of its input.
            flat: whether its input is (N, C), which has no instance statistic.
            options: valid for `spec`, see `check_options`; these win over what is carried over.

        Raises:
            InputError: ghost batches and synchronisation on one layer, or what the new layer's constructor refuses.
        """
        carried: dict[str, Any] = {"statistics": ("layer", "batch")} if flat else {}
        names = ("eps", "momentum", "ghost", "statistics", "centre")
        carried |= {name: getattr(old, name) for name in names if hasattr(old, name)}
        carried["sync"] = batch_sync(old)
        # Instance Normalization by default tracks nothing, which says nothing about batch statistics.
        if isinstance(old, _BatchNorm) or "batch" in getattr(old, "statistics", ()):
            carried["track_running_stats"] = old.track_running_stats
        known = {name: value for name, value in carried.items() if name in _OPTIONS[spec.norm]}
        if isinstance(old, OURS):
            known["activation"] = old.activation
        asked = {} if spec.statistics is None else {"statistics": spec.statistics}
        recipe = cls(spec, channels(old), dims, known | asked | options)
        recipe.blank("meta")
        return recipe

    def blank(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Any:
        """The new layer as constructed, without affine parameters."""
        if self.settings.get("ghost") is not None and self.settings.get("sync", False) is not False:
            raise InputError("ghost and sync exclude each other; the nearest options are ghost=None and sync=False")
        return self.spec.layer(self.channels, self.dims, affine=False, device=device, dtype=dtype, **self.settings)

    def describes(self, old: nn.Module) -> bool:
        """Whether `old` is already the layer that this would make."""
        new = self.blank("meta")
        names = (*self.settings, *(("num_groups",) if isinstance(new, nn.GroupNorm) else ()))
        return type(old) is type(new) and all(getattr(old, name) == getattr(new, name) for name in names)

    def make(self, old: nn.Module, like: Tensor | None) -> nn.Module:
        """The new layer with the state of `old`: the same parameters, buffers and hooks, not copies of them.

        Args:
            old: the layer that it replaces.
            like: a tensor whose device and dtype new parameters get where `old` has none; None for torch's defaults.
        """
        own = (*old.parameters(recurse=False), *old.buffers(recurse=False))
        like = next((tensor for tensor in own if tensor.is_floating_point()), like)
        new = self.blank() if like is None else self.blank(like.device, like.dtype)
        _carry_affine(old, new)
        _carry_tensors(_RUNNING, old, new)
        if getattr(old, "statistics", None) == getattr(new, "statistics", ()):
            _carry_tensors(_MIXING, old, new)
        new.training = old.training
        _carry_hooks(old, new)
        made: nn.Module = new
        return made


def _carry_affine(old: nn.Module, new: Any) -> None:
    for name in ("weight", "bias"):
        value = getattr(old, name, None)
        if isinstance(value, nn.Parameter):
            setattr(new, name, value)
        elif isinstance(value, Tensor):
            # A frozen normalization's buffer.
            setattr(new, name, nn.Parameter(value, requires_grad=False))
    new.affine = new.weight is not None


def _carry_tensors(names: tuple[str, ...], old: nn.Module, new: nn.Module) -> None:
    for name in names:
        if isinstance(getattr(old, name, None), Tensor) and isinstance(getattr(new, name, None), Tensor):
            setattr(new, name, getattr(old, name))


def _carry_hooks(old: nn.Module, new: nn.Module) -> None:
    """Hooks, and the dropout and activation that some layers end with, which become one."""
    for name in _HOOKS:
        # The very dictionaries, so that the handles that were given out still remove their hooks.
        setattr(new, name, getattr(old, name))
    if has_tail(old):
        new.drop, new.act = old.drop, old.act
        if apply_tail not in new._forward_hooks.values():
            # First, for the other hooks have always seen the activation.
            new.register_forward_hook(apply_tail, prepend=True)
