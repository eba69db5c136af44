"""Which options a class or function that makes layers takes, told by its signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from torch import nn

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Options:
    """The options of layers.

    Attributes:
        names: the known ones, in the order of the signature.
        others: whether any other name is taken too.
        bound: those that a partial sets.
    """

    names: tuple[str, ...]
    others: bool = False
    bound: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return self.others or name in self.names


def options_of(make: Callable[..., Any]) -> Options:
    """The options of `make(channels, **options)`; a class that passes `**kwargs` on takes those of its bases too."""
    bound: frozenset[str] = frozenset()
    places = 1  # that of the channels
    while isinstance(make, functools.partial):
        places += len(make.args)
        bound |= make.keywords.keys()
        make = make.func
    parameters: dict[str, Parameter] = {}
    others = not isinstance(make, type)
    for found in _signatures(make):
        parameters = {p.name: p for p in found} | parameters
        others = any(p.kind is Parameter.VAR_KEYWORD for p in found)
        if not others:
            break
    positional = [p.name for p in parameters.values() if p.kind in _POSITIONAL and p.name not in bound]
    taken = positional[:places]
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    names = tuple(p.name for p in parameters.values() if p.kind in named and p.name not in taken)
    return Options(names, others, bound)


def _signatures(make: Callable[..., Any]) -> Iterator[list[Parameter]]:
    """The parameters of a function, or of the constructors of a class and its bases, which call each other."""
    if not isinstance(make, type):
        try:
            yield list(inspect.signature(make).parameters.values())
        except (TypeError, ValueError):  # Not all callables written in C tell.
            return
        return
    for cls in make.__mro__[: make.__mro__.index(nn.Module) if nn.Module in make.__mro__ else -1]:
        # One that passes all to `nn.Module`, which takes nothing, keeps it for itself.
        if "__init__" in vars(cls):
            yield list(inspect.signature(vars(cls)["__init__"]).parameters.values())[1:]
