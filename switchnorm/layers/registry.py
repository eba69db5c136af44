"""Normalizers by name: what a registration says, and the one list of them that every room asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeVar

from torch import nn

from switchnorm.errors import InputError, unknown
from switchnorm.layers.checks import DIMS, check_registration, is_torchs
from switchnorm.layers.evaluated import Evaluated
from switchnorm.layers.made import mark, now
from switchnorm.layers.options import Options, options_of

# For normalizers that bring no color: of 3:1 contrast on white and on near-black, as those of the built-in ones.
_PALETTE = ("#ac8e53", "#db2906", "#a806f9", "#c68039", "#f9246b")
# What a caller decides for all layers alike, and no switch by itself.
_DECIDED = ("affine", "bias", "activation", "device", "dtype")
# What a layer that does not know an option does anyway.
_NEUTRAL = {"affine": True, "activation": None}


@dataclass(frozen=True, eq=False)
class Norm:
    """A normalizer: how its layers are made, and what they can.

    Only `name` and `layers` are needed. What is not said is looked up on the layers, or taken to be impossible.

    Attributes:
        name: as in "sn", without "+", ":", spaces and upper case.
        layers: by the number of spatial dimensions, 1 to 3, a class or function that is called as `cls(channels,
            **options)`. Its signature tells the options; `affine`, `device`, `dtype` and `activation` may be missing.
        classes: more classes whose layers are of this normalizer, besides those in `layers`. What a function makes
            needs none, for each such layer remembers the normalizer that made it.
        batch_statistics: whether training normalizes by statistics of the batch, or a function of a layer that tells.
            None: a layer does where it has a buffer `running_mean` or `running_var`. Modules inside of a layer are
            looked at by themselves.
        statistic: the one statistic by which layers normalize, so that they compute weight * (x - mean) / sqrt(var +
            eps) + bias: "instance", "layer", "batch", "group:G", or a function of a layer that tells. A switch then
            knows whether it keeps the function. None where it is something else.
        ghost: layers obey their attribute `ghost`: samples per part of the batch, the sizes of the parts, None, or in
            heads of detectors what knows these sizes; `switchnorm.layers.parts_of_batch` tells them.
        sync: layers obey their attribute `sync`: False, True or a process group.
        calibrate: layers have `momentum`, which may be None to average, and `reset_running_stats()`.
        mixes: layers mix `statistics`, K names, by the logits `mean_weight` and `var_weight` (K,), which `importance()`
            turns into two (K,) tensors on the simplex and `set_importance(mean, var)` takes back.
        sparse: and their importance becomes one-hot: they have `set_radius(radius)`, `harden()`,
            `unharden()` and the buffers `radius`, `mean_fixed` and `var_fixed` (1,).
        fuses: layers are called as `layer(x, residual, activation)`, and have an attribute `activation`.
        groups: layers take `groups`, which "NAME:G" sets.
        flat: options of layers whose input is known to be (N, C), which has no instance statistic.
        evaluates: a function of a layer that tells what it computes in evaluation, or why that is not known before a
            batch is; see `switchnorm.layers.evaluated`. `switchnorm.fold` then knows what of it is constant. None where
            nobody says.
        scale: the name of the parameter that multiplies the output, for networks whose blocks start as identities.
        baseline: whether tables show how far others are from it.
        color: in figures, as "#rrggbb"; None for one that no other has yet.
        order: place in lists and tables; None for the end.
    """

    name: str
    layers: Mapping[int, Callable[..., nn.Module]]
    _: KW_ONLY
    classes: tuple[type[nn.Module], ...] = ()
    batch_statistics: bool | Callable[[Any], bool] | None = None
    statistic: str | Callable[[Any], str] | None = None
    ghost: bool = False
    sync: bool = False
    calibrate: bool = False
    mixes: bool = False
    sparse: bool = False
    fuses: bool = False
    groups: bool = False
    flat: Mapping[str, Any] = field(default_factory=dict)
    evaluates: Callable[[Any], Evaluated | str] | None = None
    scale: str = "weight"
    baseline: bool = False
    color: str | None = None
    order: int | None = None

    def takes(self, dims: int = 2) -> Options:
        """All options of the layers for a number of spatial dimensions.

        Raises:
            InputError: there are none for this number.
        """
        return options_of(self._maker(dims))

    def options(self, dims: int = 2) -> Options:
        """The options that a switch may set, see `takes`."""
        taken = self.takes(dims)
        free = (name for name in taken.names if name not in _DECIDED and not (name == "groups" and self.groups))
        return Options(tuple(free), taken.others, taken.bound)

    def check_options(self, names: Mapping[str, Any], known: Options) -> None:
        """Raise `InputError` for a name that is not among the `known` options, with the nearest."""
        for name in names:
            if name not in known:
                if not known.names:
                    raise InputError(f"layers of {self.name!r} take no options, got {name!r}")
                raise unknown(f"option of {self.name!r}", name, known.names)

    def layer(self, channels: int, dims: int = 2, **options: Any) -> nn.Module:
        """A fresh layer.

        Args:
            channels: C.
            dims: spatial dimensions, 1 to 3.
            options: those that the layer takes; `device` and `dtype` always.

        Raises:
            InputError: no layer for this number of dimensions, an option that the layer does not take, or whatever
                the class or function raises.
        """
        make, taken = self._maker(dims), self.takes(dims)
        options = {n: v for n, v in options.items() if n in taken.names or n not in _NEUTRAL or v is not _NEUTRAL[n]}
        place = {n: options.pop(n) for n in ("device", "dtype") if n in options and n not in taken.names}
        self.check_options(options, taken)
        since = now()
        try:
            made: Any = make(channels, **options)
        except InputError:
            raise
        except Exception as error:  # The code of others may raise anything.
            words = str(error).strip().partition("\n")[0]
            said = f"{type(error).__name__}: {words}" if words else type(error).__name__
            way = "; give a function of the channels, such as functools.partial" * isinstance(error, TypeError)
            raise InputError(f"norm {self.name!r} makes no layer of {channels} channels: {said}{way}") from error
        if not isinstance(made, nn.Module):
            kind = type(made).__name__
            raise InputError(f"norm {self.name!r} must make a torch.nn.Module of {channels} channels, and made {kind}")
        alone = sum(other is make for other in self.layers.values()) == 1
        mark(made, self.name, _norms.get(self.name) is self, channels, dims if alone else None, since)
        place = {name: value for name, value in place.items() if value is not None}
        return made.to(**place) if place else made

    def _maker(self, dims: int) -> Callable[..., nn.Module]:
        if dims not in self.layers:
            nearest = min(self.layers, key=lambda known: (abs(known - dims), known))
            raise InputError(
                f"norm {self.name!r} has no layer for {dims} spatial dimensions; the nearest it has is for {nearest}"
            )
        return self.layers[dims]

    def dims_of(self, cls: type[nn.Module]) -> int | None:
        """The spatial dimensions that layers of a class take; None where it is that of several."""
        found = [dims for dims, make in self.layers.items() if make is cls]
        return found[0] if len(found) == 1 else None

    @property
    def any_dims(self) -> bool:
        """Whether one and the same class or function makes the layers for all dimensions."""
        return len(self.layers) == len(DIMS) and len({id(make) for make in self.layers.values()}) == 1


_Registered = TypeVar("_Registered", bound=Norm)
_norms: dict[str, Norm] = {}
_by_class: dict[type[nn.Module], Norm] = {}
#: Called when the classes that are known have changed, by whoever remembers what a class is.
on_change: list[Callable[[], None]] = []


def register(norm: _Registered) -> _Registered:
    """Add a normalizer to those that can be named everywhere; returns it.

    Raises:
        InputError: a name that is taken or malformed, layers for other than 1 to 3 dimensions or that cannot be called,
            one of torch's classes in `classes`, an order that is no number, or a color that is not of the form
            "#rrggbb".
    """
    if not isinstance(norm, Norm):
        raise InputError(f"register takes a Norm, got {type(norm).__name__}; try Norm(name, layers={{2: ...}})")
    check_registration(norm, _norms)
    _norms[norm.name] = norm
    for cls in (*norm.classes, *norm.layers.values()):
        # Most of torch's modules are no such normalizer: of these only what it makes itself is.
        if isinstance(cls, type) and not is_torchs(cls):
            _by_class.setdefault(cls, norm)
    _changed()
    return norm


def find(name: str) -> Norm:
    """The normalizer of a name without "+ws" and ":G"; raise `InputError` with the nearest for an unknown one."""
    norm = _norms.get(name) if isinstance(name, str) else None
    if norm is None:
        raise unknown("norm", str(name), norm_names())
    return norm


def registered(name: str) -> Norm | None:
    """As `find`; None for an unknown name."""
    return _norms.get(name)


def all_norms() -> Iterator[Norm]:
    """All normalizers, in the order of lists."""
    last = max((norm.order for norm in _norms.values() if norm.order is not None), default=0)
    yield from sorted(_norms.values(), key=lambda norm: last + 1 if norm.order is None else norm.order)


def norm_names() -> tuple[str, ...]:
    """The names of all normalizers, in the order of lists; most can be followed by "+ws", some by ":G"."""
    return tuple(norm.name for norm in all_norms())


def color_of(name: str) -> str | None:
    """The color of a normalizer in figures, of its own or of a palette for those without; None for an unknown name."""
    norm = _norms.get(name)
    if norm is None or norm.color is not None:
        return None if norm is None else norm.color
    without = [other.name for other in all_norms() if other.color is None]
    return _PALETTE[without.index(name) % len(_PALETTE)]


def by_class(cls: type[nn.Module]) -> Norm | None:
    """The normalizer that makes layers of this very class."""
    return _by_class.get(cls)


def _changed() -> None:
    for forget in on_change:
        forget()
