"""What a layer remembers of how it was made, where its class alone does not tell."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from switchnorm.errors import InputError

# Not an attribute of the class: copies and pickles keep it, and state dicts do not have it.
_KEY = "_switchnorm_made"
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_clock = itertools.count()
_born: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Made:
    """How a layer was made.

    Attributes:
        norm: the name of the registered normalizer that made it; None for a class or function that is not registered.
        channels: C.
        dims: spatial dimensions of its input; None where layers for several are made in the same way.
        hooks: the keys of the hooks that its own constructor registered.
    """

    norm: str | None
    channels: int
    dims: int | None
    hooks: tuple[int, ...] = ()


def made_by(module: nn.Module) -> Made | None:
    """How a layer was made; None for modules that no normalizer made."""
    found: Made | None = vars(module).get(_KEY)
    return found


def now() -> int:
    """A moment, later than all before; for `mark`."""
    return next(_clock)


def mark(module: nn.Module, norm: str, registered: bool, channels: int, dims: int | None, since: int) -> None:
    """Let a layer remember how it was made.

    Args:
        module: a layer.
        norm: what made it, in words.
        registered: whether this is the name of a registered normalizer.
        channels: C.
        dims: see `Made`.
        since: when making it began.

    Raises:
        InputError: a layer that was made before, or whose parameters are not made yet.
    """
    name = type(module).__name__
    if _born.get(module, since) < since:
        raise InputError(f"norm {norm!r} must make a new layer each time, and made the same {name} again")
    if any(isinstance(part, LazyModuleMixin) for part in module.modules()):
        raise InputError(
            f"norm {norm!r} makes a lazy {name}, whose parameters do not exist yet; use the class that takes channels"
        )
    _born[module] = now()
    hooks = tuple(key for kind in _HOOKS for key in getattr(module, kind))
    vars(module)[_KEY] = Made(norm if registered else None, channels, dims, hooks)
