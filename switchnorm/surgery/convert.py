"""Making one normalization layer from another, and a standardized convolution from a plain one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.layers import Norm, Spec, channels_of, has_batch_statistics, kind_of, norm_of
from switchnorm.layers.options import options_of
from switchnorm.layers.weight_standardized import WS_CONV
from switchnorm.surgery.kinds import apply_tail, batch_sync, has_tail

_AFFINE = ("weight", "bias")
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


@dataclass(frozen=True)
class Replacement:
    """The layer that takes the place of another, which still has its state.

    Attributes:
        old, new: the layers; `new` is as its class or function made it.
        spec: what `new` is.
        settings: how it was made.
        lost: what `old` has and `new` cannot take over, in words.
    """

    old: nn.Module
    new: Any
    spec: Spec
    settings: dict[str, Any]
    lost: tuple[str, ...]

    @classmethod
    def of(cls, old: nn.Module, spec: Spec, dims: int, flat: bool, options: Mapping[str, Any]) -> Replacement:
        """The layer of `spec` that takes the place of `old`, with the settings that both know and with `options`.

        Args:
            old: a layer that switches.
            spec: what to switch to.
            dims: spatial dimensions of its input.
            flat: whether its input is (N, C), which has no instance statistic.
            options: of the new layer; these win over what is carried over. A class or function that is no registered
                normalizer gets nothing else.

        Raises:
            InputError: a setting that the new layer cannot have, or what its constructor raises.
        """
        channels = channels_of(old)
        assert channels is not None
        settings = dict(options)
        if spec.make is None:
            asked = {} if spec.statistics is None else {"statistics": spec.statistics}
            settings = _settings(old, spec.registration, dims, flat) | asked | settings
            if settings.get("ghost") is not None and settings.get("sync", False) is not False:
                raise InputError("ghost and sync exclude each other; the nearest options are ghost=None and sync=False")
        new = spec.layer(channels, dims, **settings)
        _check_kept(old, new, spec)
        return cls(old, new, spec, settings, tuple(_lost(old, new)))

    def changes_nothing(self) -> bool:
        """Whether the old layer already is what the new one would be."""
        if self.spec.make is not None or type(self.old) is not type(self.new):
            return False
        names = (*self.settings, *(("num_groups",) if hasattr(self.new, "num_groups") else ()))
        missing = object()
        return all(getattr(self.old, name, missing) == getattr(self.new, name, missing) for name in names)

    def install(self, like: Tensor | None) -> nn.Module:
        """The new layer with the state of the old: the same parameters, buffers and hooks, not copies of them.

        Args:
            like: a tensor whose device and dtype new parameters get where the old layer has none; None for torch's
                defaults.
        """
        old, new = self.old, self.new
        own = (*old.parameters(), *old.buffers())
        like = next((tensor for tensor in own if tensor.is_floating_point()), like)
        if like is not None:
            new.to(like.device, like.dtype)
        _carry_affine(old, new)
        _carry_tensors(_RUNNING, old, new)
        if getattr(old, "statistics", None) == getattr(new, "statistics", ()):
            _carry_tensors(_MIXING, old, new)
        new.train(old.training)
        _carry_hooks(old, new)
        made: nn.Module = new
        return made


def _settings(old: nn.Module, norm: Norm, dims: int, flat: bool) -> dict[str, Any]:
    """What a layer of `norm` takes over from `old`, save tensors."""
    kind = kind_of(old)
    theirs = options_of(type(old) if kind is None or kind.base is None else kind.base)
    settings: dict[str, Any] = dict(norm.flat) if flat else {}
    for name in norm.options(dims).names:
        if name in theirs and hasattr(old, name):
            settings[name] = getattr(old, name)
    if "sync" in norm.options(dims).names:
        settings["sync"] = batch_sync(old)
    # Instance Normalization by default tracks nothing, which says nothing about batch statistics.
    if not has_batch_statistics(old):
        settings.pop("track_running_stats", None)
    taken = norm.takes(dims).names
    if "affine" in taken and hasattr(old, "weight"):
        settings["affine"] = isinstance(old.weight, Tensor)
    if "activation" in taken and norm_of(old) is not None:
        settings["activation"] = getattr(old, "activation", None)
    return settings


def _check_kept(old: nn.Module, new: nn.Module, spec: Spec) -> None:
    """Raise `InputError` if `new` would silently lack what `old` does besides normalizing."""
    activation = getattr(old, "activation", None) if norm_of(old) is not None else None
    if activation is not None and getattr(new, "activation", None) != activation:
        raise InputError(f"it ends with {activation!r}, which layers of {str(spec)!r} do not; leave it out by exclude")
    if not has_batch_statistics(old) or not any(map(has_batch_statistics, new.modules())):
        return
    can = norm_of(new)
    if getattr(old, "ghost", None) is not None and not (can and can.ghost):
        raise InputError(f"it has ghost batches, which {str(spec)!r} does not support; call ghost(model, None) first")
    if batch_sync(old) is not False and not (can and can.sync):
        raise InputError(f"it synchronises its statistics, as {str(spec)!r} cannot; call sync(model, False) first")


def _lost(old: nn.Module, new: nn.Module) -> Iterator[str]:
    """What `old` has and `new` has no place for, where it could have one."""
    for name in _AFFINE:
        if isinstance(getattr(old, name, None), Tensor) and not _fits(name, old, new):
            yield name
    inner = [name for name, _ in old.named_parameters() if "." in name]
    yield from (name for name in inner if not (has_tail(old) and name.startswith(("act.", "drop."))))
    mixers = [norm_of(layer) for layer in (old, new)]
    if all(norm is not None and norm.mixes for norm in mixers) and getattr(old, "statistics", ()) != getattr(
        new, "statistics", ()
    ):
        yield "mixing logits"
    tracked = any(isinstance(getattr(layer, "running_mean", None), Tensor) for layer in old.modules())
    wanted = any(map(has_batch_statistics, new.modules()))
    if tracked and wanted and not _fits("running_mean", old, new):
        yield "running statistics"


def _fits(name: str, old: Any, new: Any) -> bool:
    """Whether a tensor of `old` can take the place of that of `new`."""
    mine, theirs = (getattr(layer, name, None) for layer in (new, old))
    return isinstance(mine, Tensor) and isinstance(theirs, Tensor) and mine.shape == theirs.shape


def _carry_affine(old: nn.Module, new: Any) -> None:
    for name in _AFFINE:
        value: Any = getattr(old, name, None)
        if _fits(name, old, new):
            # That of a frozen normalization is a buffer.
            setattr(new, name, value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False))
        elif value is None and hasattr(old, name) and "affine" in options_of(type(new)).names:
            # A layer that can do without both can do without one.
            setattr(new, name, None)
    if hasattr(new, "affine"):
        new.affine = new.weight is not None


def _carry_tensors(names: tuple[str, ...], old: nn.Module, new: nn.Module) -> None:
    for name in names:
        if _fits(name, old, new):
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
