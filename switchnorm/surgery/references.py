"""What else of a model refers to its modules than the names that PyTorch knows: plain lists, methods, closures."""

from __future__ import annotations

import contextlib
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import torch
from torch import nn

_REGISTERED = ("_parameters", "_buffers", "_modules")
#: What is read and written by the methods of these, for classes derived from them may have a say of their own.
_MAPPINGS = (OrderedDict, dict, WeakKeyDictionary, WeakValueDictionary)
_SETS = (set, WeakSet)
_LISTS = (list, deque)
#: And what is made again.
_CONSTANT = (tuple, frozenset)
#: Of whose objects the inside is nobody else's.
_OWN = sys.stdlib_module_names - {"__main__", "types", "collections"} | {"torch", "numpy"}
#: How deep in containers and objects a layer is looked for.
_DEPTH = 4
#: What is longer is data.
_MANY = 10_000


def renew(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Let whatever the modules of a model keep in attributes refer to new modules in place of the old ones.

    These are attributes that went past `nn.Module.__setattr__`; containers and objects of anybody's classes, in place
    and a few deep; methods of a module, partial functions, weak references, and what functions were made around.
    """
    for module in model.modules():
        for name, value in _attributes(module):
            if (renewed := _renewed(value, new, _DEPTH, objects=True)) is not value:
                vars(module)[name] = renewed


def unregistered(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a model refers to so and that are no part of it, each once, and where it does.

    Not through objects of others, which may know half of the program: a trainer, another network.
    """
    known = set(model.modules())
    for path, module in model.named_modules():
        for name, value in _attributes(module):
            seen = _Seen()
            _renewed(value, seen, _DEPTH, objects=False)
            for found in seen.modules:
                where = f"{path}.{name}" if path else name
                yield from ((where, inner) for inner in found.modules() if inner not in known)
                known.update(found.modules())


class _Seen(dict[nn.Module, nn.Module]):
    """Takes no module's place, and notes which were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.modules: list[nn.Module] = []

    def get(self, module: nn.Module, default: Any = None) -> Any:
        self.modules.append(module)
        return default


def _attributes(module: nn.Module) -> list[tuple[str, Any]]:
    if isinstance(module, torch.jit.ScriptModule):  # what Python holds of it is how it is reached
        return []
    return [(name, value) for name, value in vars(module).items() if name not in _REGISTERED]


def _renewed(value: Any, new: Mapping[nn.Module, nn.Module], depth: int, *, objects: bool) -> Any:
    """A value that refers to new modules in place of old ones; the same object where it can be."""
    # By its own class: a proxy claims to be of another's.
    kind = type(value)
    if issubclass(kind, nn.Module):
        return new.get(value, value)
    if not depth:
        return value

    def inner(each: Any) -> Any:
        return _renewed(each, new, depth - 1, objects=objects)

    base: Any = next((each for each in (*_LISTS, *_MAPPINGS, *_SETS, *_CONSTANT) if issubclass(kind, each)), None)
    if base is not None and base.__len__(value) <= _MANY:
        value = _renewed_container(value, base, inner)
    elif kind is partial:
        function, args = inner(value.func), [inner(each) for each in value.args]
        keywords = {name: inner(each) for name, each in value.keywords.items()}
        old = (value.func, *value.args, *value.keywords.values())
        return value if _same((function, *args, *keywords.values()), old) else partial(function, *args, **keywords)
    elif kind is types.MethodType:
        owner = inner(value.__self__)
        return value if owner is value.__self__ else getattr(owner, value.__name__, value)
    elif kind is types.FunctionType:
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):  # One that nothing was put into yet.
                if (renewed := inner(cell.cell_contents)) is not cell.cell_contents:
                    cell.cell_contents = renewed
    elif kind is weakref.ref and objects:
        target = value()
        return value if (renewed := inner(target)) is target else weakref.ref(renewed)
    if objects and kind.__module__.partition(".")[0] not in _OWN:
        for each, write in _state(value):
            if (renewed := inner(each)) is not each:
                with contextlib.suppress(AttributeError, TypeError):  # A place that Python alone writes.
                    write(renewed)
    return value


def _renewed_container(value: Any, base: Any, inner: Callable[[Any], Any]) -> Any:
    """A container, by the methods of the class that it is derived from: itself, but for what nobody can write to."""
    if base in _LISTS:
        for index, each in enumerate(list(base.__iter__(value))):
            if (renewed := inner(each)) is not each:
                base.__setitem__(value, index, renewed)
    elif base in _SETS:
        for each in list(base.__iter__(value)):
            if (renewed := inner(each)) is not each:
                base.discard(value, each)
                base.add(value, renewed)
    elif base in _MAPPINGS:
        pairs = list(base.items(value))
        made = [(inner(key), inner(each)) for key, each in pairs]
        # Another key in the place of the old one: all are put in again, in their order.
        if not _same((key for key, _ in made), (key for key, _ in pairs)):
            base.clear(value)
        for (key, renewed), (_, each) in zip(made, pairs, strict=True):
            if renewed is not each or not base.__contains__(value, key):
                base.__setitem__(value, key, renewed)
    else:
        old = list(base.__iter__(value))
        made = [inner(each) for each in old]
        if not _same(made, old):
            again = base.__new__(type(value), made)
            if hasattr(value, "__dict__"):
                vars(again).update(vars(value))
            return again
    return value


def _state(value: Any) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """What the attributes of an object hold, those of `__slots__` too, and what writes them past its class."""
    with contextlib.suppress(AttributeError, TypeError):  # One without a dictionary.
        attributes = object.__getattribute__(value, "__dict__")
        for name, each in list(attributes.items()):
            yield each, partial(attributes.__setitem__, name)
    for cls in type(value).__mro__:
        for member in vars(cls).values():
            if type(member) is types.MemberDescriptorType:
                with contextlib.suppress(AttributeError):  # Nothing is there yet.
                    yield member.__get__(value), partial(member.__set__, value)


def _same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))
