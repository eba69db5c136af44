"""What a registration of a normalizer must keep to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.layers.registry import Norm

DIMS = (1, 2, 3)
# What recipes would read as none, a truth value or a number.
_NO_TEXT = r"null|true|false|yes|no|on|off|-?\.(inf|nan)|-?\.?\d[-._\de]*|0[xob][\da-f_]+"


def check_registration(norm: Norm, taken: Mapping[str, object]) -> None:
    """Raise `InputError` for what cannot be registered, given the names that are taken."""
    _check_name(norm.name, taken)
    if not isinstance(norm.layers, Mapping):
        raise InputError(
            f"norm {norm.name!r} needs layers by their number of dimensions, such as {{2: MyNorm}}, not {norm.layers!r}"
        )
    if not norm.layers or not set(norm.layers) <= set(DIMS):
        raise InputError(f"norm {norm.name!r} has layers for {list(norm.layers)} dimensions; choose among 1, 2 and 3")
    for dims, make in norm.layers.items():
        if not callable(make) or isinstance(make, nn.Module):
            kind = type(make).__name__
            raise InputError(f"norm {norm.name!r} needs a class or function for {dims} dimensions, got {kind}")
    if stolen := next((cls for cls in norm.classes if is_torchs(cls)), None):
        raise InputError(
            f"norm {norm.name!r} has {stolen.__name__} among its classes, which is torch's; leave it out: what "
            f"{norm.name!r} makes is known without"
        )
    if norm.order is not None and not isinstance(norm.order, int):
        raise InputError(f"norm {norm.name!r} has order {norm.order!r}, which is no whole number; 0 is the first place")
    if norm.color is not None and not re.fullmatch(r"#[0-9a-f]{6}", str(norm.color)):
        raise InputError(f"norm {norm.name!r} has color {norm.color!r}; the form is '#rrggbb', such as '#2b6cb8'")


def _check_name(name: str, taken: Mapping[str, object]) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9._-]+", name):
        nearest = re.sub(r"[^a-z0-9._-]+", "_", str(name).lower()).strip("_") or "norm"
        raise InputError(
            f"norm name {name!r} is malformed: use lower case letters, digits, '.', '_' and '-'; "
            f"the nearest valid name is {nearest!r}"
        )
    if re.fullmatch(_NO_TEXT, name):
        raise InputError(f"norm name {name!r} is no text in YAML files; the nearest valid name is 'norm_{name}'")
    if name in taken:
        free = next(f"{name}{number}" for number in range(2, len(taken) + 3) if f"{name}{number}" not in taken)
        raise InputError(f"norm {name!r} is registered already; the nearest free name is {free!r}")


def is_torchs(cls: type) -> bool:
    """Whether a class is one of torch's, which no normalizer claims for itself."""
    return cls.__module__.partition(".")[0] == "torch"
