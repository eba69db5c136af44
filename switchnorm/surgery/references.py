"""What else of a model refers to its modules than the names that PyTorch knows: plain lists, methods, closures."""

from __future__ import annotations

import contextlib
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import nn

_REGISTERED = ("_parameters", "_buffers", "_modules")
#: Of exactly these kinds, for what others derive from them may refuse to be written to.
_LISTS = (list, deque)
_CONTAINERS = (*_LISTS, dict, OrderedDict, defaultdict)
#: Of whose objects the inside is nobody else's.
_OWN = sys.stdlib_module_names - {"__main__", "types"} | {"torch", "numpy"}
#: How deep in containers and objects a layer is looked for.
_DEPTH = 4
#: What is longer is data.
_MANY = 10_000


def renew(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Let whatever the modules of a model keep in attributes refer to new modules in place of the old ones.

    These are attributes that went past `nn.Module.__setattr__`; lists, tuples, dictionaries and objects of anybody's
    classes, in place and a few deep; methods of a module, partial functions, and what functions were made around.
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
    return [(name, value) for name, value in vars(module).items() if name not in _REGISTERED]


def _renewed(value: Any, new: Mapping[nn.Module, nn.Module], depth: int, *, objects: bool) -> Any:
    """A value that refers to new modules in place of old ones; the same object where it can be."""
    # By its own class: a proxy claims to be of another's.
    kind = type(value)
    if issubclass(kind, nn.Module):
        return new.get(value, value)
    if not depth or (kind in _CONTAINERS and len(value) > _MANY):
        return value

    def inner(each: Any) -> Any:
        return _renewed(each, new, depth - 1, objects=objects)

    if kind in _CONTAINERS:
        for key, each in list(enumerate(value) if kind in _LISTS else value.items()):
            if (renewed := inner(each)) is not each:
                value[key] = renewed
    elif kind is tuple or (issubclass(kind, tuple) and hasattr(kind, "_make")):
        made = [inner(each) for each in value]
        return value if _same(made, value) else getattr(value, "_make", tuple)(made)
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
    elif objects and kind.__module__.partition(".")[0] not in _OWN:
        with contextlib.suppress(AttributeError, TypeError):  # One without attributes.
            attributes = object.__getattribute__(value, "__dict__")
            for name, each in list(attributes.items()):
                if (renewed := inner(each)) is not each:
                    attributes[name] = renewed
    return value


def _same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))
