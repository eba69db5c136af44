"""Making one normalization layer from another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import Norm, Spec, channels_of, has_batch_statistics, kind_of, norm_of
from switchnorm.layers.options import options_of
from switchnorm.surgery.carry import (
    AFFINE,
    LOGITS,
    MIXING,
    RUNNING,
    STATE_HOOKS,
    carried,
    carry_hooks,
    carry_tensors,
    ends_by_itself,
    leave_out,
)
from switchnorm.surgery.kinds import batch_sync, tail_of
from switchnorm.surgery.start import Start, begin, source_of, start_of
from switchnorm.surgery.tail import original


@dataclass(frozen=True)
class Replacement:
    """The layer that takes the place of another, which still has its state.

    Attributes:
        old, new: the layers; `new` is as its class or function made it.
        spec: what `new` is.
        settings: how it was made.
        lost: what `old` has and `new` cannot take over, in words.
        start: tells how `new` starts, while `old` still has its state.
    """

    old: nn.Module
    new: Any
    spec: Spec
    settings: dict[str, Any]
    lost: tuple[str, ...]
    start: Callable[[], Start]

    @classmethod
    def of(
        cls,
        old: nn.Module,
        spec: Spec,
        dims: int,
        flat: bool,
        options: Mapping[str, Any],
        start: str,
        learned: bool | None,
        tied: set[int],
        fed: bool,
    ) -> Replacement:
        """The layer of `spec` that takes the place of `old`, with the settings that both know and with `options`.

        Args:
            old: a layer that switches.
            spec: what to switch to.
            dims: spatial dimensions of its input.
            flat: whether its input is (N, C), which has no instance statistic.
            options: of the new layer; these win over what is carried over. A class or function that is no registered
                normalizer gets nothing else.
            start, learned, tied, fed: see `start_of`.

        Raises:
            InputError: a setting that the new layer cannot have, or what its constructor raises.
        """
        channels = channels_of(old)
        assert channels is not None
        settings = dict(options)
        if spec.make is None:
            asked: dict[str, Any] = {} if spec.statistics is None else {"statistics": spec.statistics}
            if spec.tied:
                asked["tied"] = True
            settings = _settings(old, spec.registration, dims, flat) | asked | settings
            if settings.get("ghost") is not None and settings.get("sync", False) is not False:
                raise InputError("ghost and sync exclude each other; the nearest options are ghost=None and sync=False")
        new = spec.layer(channels, dims, **settings)
        if "affine" not in options:
            leave_out(old, new)
        # Each excludes the other: who asks for one decides both.
        asked_for = {"ghost", "sync"} if options.keys() & {"ghost", "sync"} else set()
        _set_attributes(old, new, {*settings, *spec.registration.takes(dims).bound, *asked_for})
        _check_kept(old, new, spec)
        starts = partial(start_of, old, new, start, learned, tied, fed)
        return cls(old, new, spec, settings, tuple(_lost(old, new)), starts)

    def changes_nothing(self) -> bool:
        """Whether the old layer already is what the new one would be."""
        if self.spec.make is not None or original(self.old) is not type(self.new):
            return False
        kinds = [kind_of(layer) for layer in (self.old, self.new)]
        if len({None if kind is None else kind.norm for kind in kinds}) > 1:
            return False
        missing = object()
        names = {*self.settings, *_plain(self.old), *_plain(self.new)}
        return all(getattr(self.old, name, missing) == getattr(self.new, name, missing) for name in names)

    def install(self, like: Tensor | None) -> nn.Module:
        """The new layer with the state of the old: the same parameters, buffers and hooks, not copies of them.

        Their values stay, but for what the start decides.

        Args:
            like: a tensor whose device and dtype new parameters get where the old layer has none; None for torch's
                defaults.
        """
        old, new = self.old, self.new
        own = (*old.parameters(), *old.buffers())
        like = next((tensor for tensor in own if tensor.is_floating_point()), like)
        if like is not None:
            new.to(like.device, like.dtype)
        start, source = self.start(), source_of(old)
        carry_tensors(old, new)
        begin(start, source, new)
        new.train(old.training)
        carry_hooks(old, new)
        made: nn.Module = new
        return made


def has_such(new: nn.Module, old: nn.Module, name: str) -> bool:
    """Whether a new layer has a tensor of this name as the old one has."""
    mine, theirs = getattr(new, name, None), getattr(old, name, None)
    return isinstance(mine, Tensor) and isinstance(theirs, Tensor) and mine.shape == theirs.shape


def _settings(old: nn.Module, norm: Norm, dims: int, flat: bool) -> dict[str, Any]:
    """What a layer of `norm` takes over from `old`, save tensors."""
    kind = kind_of(old)
    theirs = options_of(type(old) if kind is None or kind.base is None else kind.base)
    settings: dict[str, Any] = dict(norm.flat) if flat else {}
    options, taken = norm.options(dims), norm.takes(dims)
    for name in options.names:
        if name in theirs and hasattr(old, name):
            value = getattr(old, name)
            # No layer that trains has an eps of 0: it gets its own, for which scale and shift make up.
            if name != "eps" or value:
                # That of a layer that cannot be folded is no plain float.
                settings[name] = float(value) if isinstance(value, float) else value
    for name, value in _batch_settings(old).items():
        if name in options.names:
            settings[name] = value
    # Instance Normalization by default tracks nothing, which says nothing about batch statistics.
    if not has_batch_statistics(old):
        settings.pop("track_running_stats", None)
    if "affine" in taken.names and hasattr(old, "weight"):
        settings["affine"] = isinstance(old.weight, Tensor)
    activation = _activation(old)
    if "activation" in taken.names and (activation is not None or norm.fuses):
        settings["activation"] = activation
    # What the registration sets is what its normalizer is.
    return {name: value for name, value in settings.items() if name not in taken.bound}


def _batch_settings(layer: nn.Module) -> dict[str, Any]:
    """Over which samples and processes a layer takes batch statistics."""
    return {"ghost": getattr(layer, "ghost", None), "sync": batch_sync(layer)}


def _set_attributes(old: nn.Module, new: nn.Module, decided: set[str]) -> None:
    """Give `new` the batch settings of `old` that it obeys as attributes and that its constructor did not take."""
    norm = norm_of(new)
    for name, value in _batch_settings(old).items():
        if norm is not None and getattr(norm, name) and name not in decided:
            setattr(new, name, value)


def _activation(layer: nn.Module) -> Any:
    """The name of the activation that a layer of this library's kind ends with; None where there is none."""
    norm = norm_of(layer)
    return getattr(layer, "activation", None) if norm is not None and norm.fuses else None


def _plain(layer: nn.Module) -> set[str]:
    """The names of a layer's attributes that are numbers, words and the like, or tuples of them."""
    kinds = (bool, int, float, str, type(None))
    own = {
        name: value if isinstance(value, tuple) else (value,) for name, value in vars(layer).items() if name[0] != "_"
    }
    return {name for name, parts in own.items() if all(isinstance(part, kinds) for part in parts)} - {"training"}


def _check_kept(old: nn.Module, new: nn.Module, spec: Spec) -> None:
    """Raise `InputError` if `new` would silently lack what `old` does besides normalizing."""
    activation = _activation(old)
    if activation is not None and getattr(new, "activation", None) != activation:
        raise InputError(f"it ends with {activation!r}, which layers of {str(spec)!r} do not; leave it out by exclude")
    if not has_batch_statistics(old) or not any(map(has_batch_statistics, new.modules())):
        return
    can = norm_of(new)
    if getattr(old, "ghost", None) is not None and not (can and can.ghost):
        raise InputError(f"it has ghost batches, which {str(spec)!r} does not support; call ghost(model, None) first")
    if batch_sync(old) not in (False, batch_sync(new)) and not (can and can.sync):
        raise InputError(f"it synchronises its statistics, as {str(spec)!r} cannot; call sync(model, False) first")


def _lost(old: nn.Module, new: nn.Module) -> Iterator[str]:
    """What `old` has and `new` has no place for, where it could have one."""
    kept = carried(old, new)
    frozen = [name for name in AFFINE if isinstance(old._buffers.get(name), Tensor)]
    left = [name for name in (*frozen, *(n for n, _ in old.named_parameters())) if name not in kept]
    tail = tail_of(old)
    norm = norm_of(old)
    logits = LOGITS if norm is not None and norm.mixes else ()
    yield from (n for n in left if n not in logits and n.partition(".")[0] not in tail)
    if any(name in logits for name in left):
        yield "mixing logits"
    tracked = [name for name, _ in old.named_buffers() if name.rpartition(".")[2] == "running_mean"]
    wanted = any(map(has_batch_statistics, new.modules()))
    if wanted and any(name not in kept for name in tracked):
        yield "running statistics"
    if tail and ends_by_itself(new):
        yield " and ".join(reversed(tail))
    known = {*kept, *AFFINE, *RUNNING, *MIXING}
    yield from (name for name in vars(old)["_buffers"] if name not in known and not hasattr(new, name))
    if any(getattr(old, name) for name in STATE_HOOKS):
        yield "hooks of its state dict"
