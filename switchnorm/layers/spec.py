"""A normalization as users write it: "gn:16+ws", or a class or function that makes its layers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import nn

from switchnorm.errors import InputError, unknown
from switchnorm.layers.arguments import check_flag
from switchnorm.layers.registry import Norm, all_norms, find, norm_names, registered
from switchnorm.layers.weight_standardized import CONV, WS_CONV

#: What names a normalization: "sn+ws", or a class or function that is called as `f(channels, **options)`.
NormLike: TypeAlias = "str | Spec | Callable[..., nn.Module]"


@dataclass(frozen=True)
class Spec:
    """A normalization, taken apart.

    Attributes:
        norm: one of `norm_names()`; where `make` is given, what to call it.
        groups: of "gn:G"; None where the number of channels decides.
        ws: whether convolutions that feed a normalization standardize their weights.
        statistics: what is mixed, for normalizers that do; None for what the layer does by itself.
        tied: whether mean and variance choose alike, for normalizers whose importance becomes one-hot.
        make: makes the layers in place of a registered normalizer.

    Raises:
        InputError: an unknown name, with the nearest valid one; groups where there are none.
    """

    norm: str
    groups: int | None = None
    ws: bool = False
    statistics: tuple[str, ...] | None = None
    make: Callable[..., nn.Module] | None = None
    tied: bool = False

    def __post_init__(self) -> None:
        if self.groups is not None and not self.registration.groups:
            takers = " and ".join(repr(norm.name) for norm in all_norms() if norm.groups)
            raise InputError(f"norm {self.norm!r} takes no groups; {takers} do")
        assert self.registration

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read "sn", "gn:16", "gn+ws", ...; raise `InputError` with the nearest valid name otherwise."""
        if not isinstance(text, str):
            raise InputError(f"norm {text!r} is no name; choose from {', '.join(norm_names())}")
        name, plus, suffix = text.partition("+")
        if plus and suffix != "ws":
            raise unknown("norm", text, [f"{norm}+ws" for norm in norm_names()])
        split = re.fullmatch(r"([^:]+):(\d+)", name)
        norm = registered(split[1] if split else name)
        if norm is None or (split and not norm.groups):
            raise unknown("norm", text, [norm + plus + suffix for norm in norm_names()])
        return cls(norm.name, int(split[2]) if split else None, bool(plus))

    @classmethod
    def of(cls, norm: NormLike) -> Spec:
        """The normalization that a name, or a class or function that makes layers, stands for.

        Raises:
            InputError: an unknown name, or what is neither.
        """
        if isinstance(norm, Spec):
            return norm
        if isinstance(norm, nn.Module):
            raise InputError(
                f"norm is a {type(norm).__name__} that is made already, and every layer needs its own; give a name, a "
                f"class or a function of the channels"
            )
        if isinstance(norm, str) or not callable(norm):
            return cls.parse(norm)
        return cls(_called(norm), make=norm)

    def __str__(self) -> str:
        groups = "" if self.groups is None else f":{self.groups}"
        return f"{self.norm}{groups}{'+ws' if self.ws else ''}"

    @property
    def registration(self) -> Norm:
        """What is known of the normalizer."""
        return find(self.norm) if self.make is None else Norm(self.norm, dict.fromkeys((1, 2, 3), self.make))

    def layer(self, channels: int, dims: int = 2, *, flat: bool = False, **options: Any) -> nn.Module:
        """A fresh normalization layer.

        Args:
            channels: C.
            dims: spatial dimensions, 1 to 3.
            flat: whether inputs are known to be (N, C), which have no instance statistic.
            options: arguments of the layer; `affine`, `eps`, `activation`, `device` and `dtype` are understood by this
                library's normalizers.

        Raises:
            InputError: groups that do not divide the channels, options that the layer does not take, or whatever its
                class or function raises.
        """
        norm = self.registration
        asked: dict[str, Any] = dict(norm.flat) if flat else {}
        if self.groups is not None:
            asked["groups"] = self.groups
        if self.statistics is not None:
            asked["statistics"] = tuple(name for name in self.statistics if not (flat and name == "instance"))
        if self.tied:
            asked["tied"] = True
        return norm.layer(channels, dims, **(asked | options))

    def mixing(self, statistics: Sequence[str] | str | None) -> Spec:
        """This normalization on other statistics.

        Args:
            statistics: names, or one string with commas between them; None for those that it has.

        Raises:
            InputError: statistics for a normalization that mixes none, or that are no names.
        """
        if statistics is None:
            return self
        if not self.registration.mixes:
            mixers = " and ".join(repr(norm.name) for norm in all_norms() if norm.mixes)
            raise InputError(f"statistics are mixed by {mixers}, not by '{self}'; leave statistics out")
        names = statistics.split(",") if isinstance(statistics, str) else statistics
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise InputError(f"statistics are names such as 'instance,layer', not {statistics!r}")
        return replace(self, statistics=tuple(name.strip() for name in names))

    def tying(self, tied: bool) -> Spec:
        """This normalization with mean and variance that choose alike, or not.

        Raises:
            InputError: asked of a normalization that makes no choices, or `tied` is neither true nor false.
        """
        if not check_flag("tied", tied):
            return self
        if not self.registration.sparse:
            takers = " and ".join(repr(norm.name) for norm in all_norms() if norm.sparse)
            raise InputError(f"tied choices are those of {takers}, not of '{self}'; leave tied out")
        return replace(self, tied=True)

    def conv(self, dims: int = 2) -> Callable[..., nn.Module]:
        """The class of a convolution that feeds this normalization."""
        return (WS_CONV if self.ws else CONV)[dims]


def _called(make: Any) -> str:
    """What to call a class or function in a line of text."""
    if isinstance(make, functools.partial):
        given = [*map(repr, make.args), *(f"{name}={value!r}" for name, value in make.keywords.items())]
        return f"partial({', '.join([_called(make.func), *given])})"
    return str(getattr(make, "__name__", type(make).__name__))
