"""A replica of a model to run foreign forward passes on: nothing written there, in place or anew, reaches the model."""

from __future__ import annotations

import collections
import contextlib
import copy
import enum
import functools
import io
import random
import sys
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

_ATOMIC = (
    *(type(None), bool, int, float, complex, str, bytes, type, range, slice, type(...), type(NotImplemented)),
    *(types.ModuleType, types.CodeType, property, staticmethod, classmethod),
    *(torch.Size, torch.dtype, torch.device, torch.layout, torch.memory_format),
)
# Runtime machinery that forward passes do not compute with, and that refers to half of the interpreter.
_MACHINERY = ("torch._dynamo", "torch._inductor", "torch.distributed", "torch.cuda", "threading", "logging")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Unavailable:
    """Stands for what cannot be copied, such as a generator or a lock; whoever uses it fails."""

    def __init__(self, kind: type) -> None:
        self.__dict__["_kind"] = kind

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python looks these up to see what an object can.
            raise AttributeError(name)
        raise TypeError(f"a {vars(self)['_kind'].__name__} cannot be copied")

    def __bool__(self) -> bool:
        raise TypeError(f"a {vars(self)['_kind'].__name__} cannot be copied")


class Opaque(nn.Module):
    """Stands for a module that has no forward pass in Python."""


class Replica:
    """A model of the same classes and structure, without hooks, whose tensors are on the meta device.

    Modules, containers, objects with attributes, closures and what these refer to are copied without running code of
    their classes; so are mutable attributes of the modules' classes, as attributes of the modules.

    Args:
        model: any model, not changed by this.

    Attributes:
        root: the copy of `model`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._twins: dict[int, Any] = {}
        # As long as these live, no other object has their address.
        self._originals: list[Any] = []
        self._holders: list[Any] = []
        self.root: nn.Module = self.copied(model)

    def twin(self, module: nn.Module) -> nn.Module | None:
        """The copy of a module of the model; None for those inside of what has no forward pass in Python."""
        return self._twins.get(id(module))

    def state(self) -> list[Any]:
        """What a forward pass can change in Python, to compare with what it was before: attributes, contents of
        containers, variables of closures, Python's and NumPy's random numbers.
        """
        numpy = sys.modules.get("numpy")
        drawn = None if numpy is None else [numpy.random.get_state()[1].tobytes(), *numpy.random.get_state()[2:]]
        return [random.getstate(), drawn, [_held(holder) for holder in self._holders]]

    def discard(self) -> None:
        """Forget the copies, without running what their classes do at the end of an object's life."""
        for copied in self._holders:
            if isinstance(copied, nn.Module) and hasattr(type(copied), "__del__"):
                copied.__class__ = Opaque

    def copied(self, value: Any) -> Any:
        """The copy of a module, tensor, container or anything else that a forward pass is given."""
        if isinstance(value, _ATOMIC):
            return value
        if id(value) in self._twins:
            return self._twins[id(value)]
        self._originals.append(value)
        return self._copy(value)

    def _known(self, value: Any, twin: Any, *, holds: bool = True) -> Any:
        self._twins[id(value)] = twin
        if holds:
            self._holders.append(twin)
        return twin

    def _copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, (dict, list, set, frozenset, tuple, collections.deque)):
            return self._container(value)
        if isinstance(value, weakref.ref):
            target = value()
            if not isinstance(target, (nn.Module, Tensor)):
                return value
            return self._known(value, weakref.ref(self.copied(target)), holds=False)
        if (callable(value) and not hasattr(value, "__dict__")) or isinstance(value, _CALLABLES):
            return self._callable(value)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            view = value.view()
            view.flags.writeable = False
            return self._known(value, view, holds=False)
        return self._object(value)

    def _tensor(self, tensor: Tensor) -> Tensor:
        with torch.no_grad():
            if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
                kind: Any = type(tensor)
                twin: Tensor = kind(device="meta")
            else:
                twin = _on_meta(tensor)
                if isinstance(tensor, nn.Parameter):
                    twin = nn.Parameter(twin, requires_grad=tensor.requires_grad)
        return self._known(tensor, twin, holds=False)

    def _module(self, module: nn.Module) -> nn.Module:
        if isinstance(module, torch.jit.ScriptModule):
            return self._known(module, Opaque())
        twin = self._known(module, object.__new__(type(module)))
        self._fill(module, twin)
        for cls in type(module).__mro__:
            if cls.__module__.partition(".")[0] in ("torch", "builtins"):
                continue
            for name, value in vars(cls).items():
                if not name.startswith("__") and isinstance(value, (dict, list, set, collections.deque, Tensor)):
                    vars(twin).setdefault(name, self.copied(value))
        for name in _HOOKS:
            vars(twin)[name] = OrderedDict()
        return twin

    def _fill(self, value: Any, twin: Any) -> None:
        """Copy attributes, in `__dict__` and in slots."""
        for name, held in getattr(value, "__dict__", {}).items():
            twin.__dict__[name] = self.copied(held)
        for cls in type(value).__mro__:
            for descriptor in vars(cls).values():
                if isinstance(descriptor, types.MemberDescriptorType):
                    with contextlib.suppress(AttributeError, TypeError):
                        descriptor.__set__(twin, self.copied(descriptor.__get__(value, type(value))))

    def _container(self, value: Any) -> Any:
        """Containers and their subclasses, filled past what the subclass does when something is put in."""
        cls = type(value)
        base: Any
        if isinstance(value, (tuple, frozenset)):
            base = tuple if isinstance(value, tuple) else frozenset
            return self._known(value, base.__new__(cls, map(self.copied, base.__iter__(value))), holds=False)
        kinds = (OrderedDict, collections.defaultdict, dict, list, set, collections.deque)
        base = next(kind for kind in kinds if isinstance(value, kind))
        twin = self._known(value, base.__new__(cls))
        if isinstance(value, dict):
            if base is collections.defaultdict:
                base.__init__(twin, self.copied(getattr(value, "default_factory", None)))
            for key, held in base.items(value):
                base.__setitem__(twin, self.copied(key), self.copied(held))
        elif isinstance(value, collections.deque):
            base.__init__(twin, map(self.copied, base.__iter__(value)), value.maxlen)
        else:
            base.__init__(twin, map(self.copied, base.__iter__(value)))
        self._fill(value, twin)
        return twin

    def _callable(self, value: Any) -> Any:
        """Functions and what is bound to them, so that what they remember is copied too."""
        if isinstance(value, types.MethodType):
            return self._known(value, types.MethodType(value.__func__, self.copied(value.__self__)), holds=False)
        if isinstance(value, functools.partial):
            parts = [self.copied(part) for part in (value.func, value.args, value.keywords)]
            return self._known(value, functools.partial(parts[0], *parts[1], **parts[2]), holds=False)
        if isinstance(value, types.FunctionType):
            mutable = value.__closure__ or value.__defaults__ or value.__kwdefaults__ or vars(value)
            return self._function(value) if mutable else value
        bound = getattr(value, "__self__", None)
        method = isinstance(value, types.BuiltinMethodType) and not isinstance(bound, _ATOMIC)
        # A function of pybind11 is bound to the record of what it does, which has no such method.
        if method and hasattr(type(bound), value.__name__):
            return self._known(value, getattr(self.copied(bound), value.__name__), holds=False)
        return value

    def _function(self, value: types.FunctionType) -> Any:
        cells = tuple(types.CellType() for _ in value.__closure__ or ())
        twin = types.FunctionType(value.__code__, value.__globals__, value.__name__, None, cells or None)
        self._known(value, twin, holds=False)
        twin.__defaults__ = self.copied(value.__defaults__)
        twin.__kwdefaults__ = self.copied(value.__kwdefaults__)
        for cell, own in zip(value.__closure__ or (), cells, strict=True):
            with contextlib.suppress(ValueError):  # A variable that has no value yet.
                own.cell_contents = self.copied(cell.cell_contents)
            self._holders.append(own)
        vars(twin).update({name: self.copied(held) for name, held in vars(value).items()})
        return twin

    def _object(self, value: Any) -> Any:
        cls = type(value)
        if cls.__module__.startswith(_MACHINERY) or hasattr(cls, "__del__"):
            return self._known(value, Unavailable(cls), holds=False)
        try:
            # Values without attributes, such as dates, members of enumerations or generators of random numbers.
            if (not hasattr(value, "__dict__") and not hasattr(cls, "__slots__")) or isinstance(cls, _SINGLETONS):
                return self._known(value, copy.deepcopy(value), holds=False)
            twin = self._known(value, object.__new__(cls))
        except Exception:  # What others do when copied may raise anything.
            return self._known(value, Unavailable(cls), holds=False)
        self._fill(value, twin)
        return twin


_CALLABLES = (types.FunctionType, types.MethodType, types.BuiltinMethodType, functools.partial)
_SINGLETONS = (enum.EnumMeta,)


def _on_meta(tensor: Tensor) -> Tensor:
    """A plain tensor like another, without values."""
    try:
        strides = tuple(tensor.stride())
        return torch.empty_strided(tuple(tensor.shape), strides, dtype=tensor.dtype, device="meta")
    except Exception:  # Sparse, quantised and other tensors that have no strides.
        return torch.empty(tuple(tensor.shape), device="meta")


_FILLED: tuple[Any, ...] = (list, set, collections.deque)


def _held(holder: Any) -> Any:
    if isinstance(holder, types.CellType):
        try:
            return id(holder.cell_contents)
        except ValueError:
            return None
    attributes = [(name, id(value)) for name, value in getattr(holder, "__dict__", {}).items()]
    if isinstance(holder, dict):
        return attributes, [(id(key), id(value)) for key, value in dict.items(holder)]
    for base in _FILLED:
        if isinstance(holder, base):
            return attributes, [id(value) for value in base.__iter__(holder)]
    slots = [
        id(getattr(holder, name, None))
        for cls in type(holder).__mro__
        for name, descriptor in vars(cls).items()
        if isinstance(descriptor, types.MemberDescriptorType) and not isinstance(holder, nn.Module)
    ]
    return attributes, slots


@contextmanager
def replicated(model: nn.Module) -> Iterator[Replica]:
    """A replica of a model, and nothing that runs meanwhile is seen outside: random numbers, global settings of torch,
    warnings and what is printed.
    """
    numpy = sys.modules.get("numpy")
    before = random.getstate(), None if numpy is None else numpy.random.get_state()
    settings = [get() for get, _ in _SETTINGS]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    replica = None
    try:
        with (
            torch.random.fork_rng(devices=list(devices)),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            replica = Replica(model)
            yield replica
    finally:
        for (get, put), value in zip(_SETTINGS, settings, strict=True):
            if get() != value:
                put(value)
        random.setstate(before[0])
        if numpy is not None:
            numpy.random.set_state(before[1])
        if replica is not None:
            replica.discard()


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_num_threads, torch.set_num_threads),
    (lambda: torch.backends.cudnn.benchmark, lambda value: setattr(torch.backends.cudnn, "benchmark", value)),
    (lambda: torch.backends.cudnn.deterministic, lambda value: setattr(torch.backends.cudnn, "deterministic", value)),
)
