"""The graph of one module's own forward pass, taken only where the pass does nothing else than its graph."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from switchnorm.surgery.operations import WITHOUT_VALUES, operation
from switchnorm.surgery.replica import Replica, replicated
from switchnorm.surgery.tracing import FAILURES, defaults, words


class RefusalError(Exception):
    """Why a forward pass cannot be rewritten."""


def _augmented(name: str) -> Callable[[Any, Any], Any]:
    """An augmented assignment such as a += b as a function; fx would record a + b, or rebind what a stands for."""
    write: Callable[[Any, Any], Any] = getattr(operator, name)

    def augmented(a: Any, b: Any) -> Any:
        return write(a, b)

    augmented.__name__ = augmented.__qualname__ = f"augmented_{name}"
    return augmented


AUGMENTED = {
    name: _augmented(name)
    for name in str.split("iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ior ixor")
}


def shallow_graph(module: nn.Module, argument: type, enough: Callable[[fx.Graph], bool]) -> fx.Graph:
    """The graph of a module's own forward pass, with the modules that it calls as nodes.

    Args:
        module: any module; nothing of it or of the process is different afterwards.
        argument: the class of its arguments, Tensor or list.
        enough: whether one look at a graph is enough, for nobody will use it.

    Raises:
        RefusalError: where the forward pass might do anything else than its graph: it cannot be traced, or has optional
            arguments, or depends on the mode or on the classes of values, or draws random numbers, makes tensors,
            stores values in Python, or changes what is differentiated and in which precision.
    """
    graphs: list[fx.Graph] = []
    try:
        parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
        if "forward" in vars(module) or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
            raise RefusalError("its forward is not a method with required arguments alone")
        if defaults(module):
            raise RefusalError("its forward is not a method with required arguments alone")
        with replicated(module) as replica:
            for training in (True, False):
                for twin in replica.root.modules():
                    vars(twin)["training"] = training
                # What modules return is mostly a tensor; where that matters, nobody knows.
                for value in (Tensor, object):
                    # Most graphs of a network call no normalization, and one look is enough.
                    if not graphs or not enough(graphs[0]):
                        with torch.set_grad_enabled(training):
                            graphs.append(_traced(replica, argument, value))
    except FAILURES as error:  # The forward pass of others, run on symbols, may raise anything.
        raise RefusalError(str(error) if isinstance(error, RefusalError) else words(error)) from None
    if len({graph.python_code("self").src for graph in graphs}) > 1:
        raise RefusalError("its forward depends on the mode or on the classes of values")
    return graphs[0]


def _traced(replica: Replica, argument: type, value: type) -> fx.Graph:
    """One graph; a forward pass that leaves other traces than its graph is refused."""
    before = replica.state()
    with _NoTensors():
        graph = _Tracer(argument, value).trace(replica.root, {})
    graph.lint()  # type: ignore[no-untyped-call]
    if replica.state() != before:
        raise RefusalError("its forward stores values or draws random numbers")
    return graph


class _NoTensors(TorchDispatchMode):
    """Refuses operations on actual tensors, whose results a graph would hold as constants."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RefusalError("its forward makes tensors of its own")


def _surroundings() -> tuple[bool, ...]:
    """What changes the meaning of an operation without being one of its arguments."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")),
    )


class _Tracer(fx.Tracer):
    """Traces one forward pass, with values that say which class they are of."""

    proxy_buffer_attributes = True

    def __init__(self, argument: type, value: type) -> None:
        super().__init__()
        self.argument = argument
        self.value = value
        self.surroundings = _surroundings()
        self.plain: set[fx.Node] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Every module is a node."""
        return True

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """As that of fx, which would forget under which context managers an operation stands."""
        if _surroundings() != self.surroundings:
            raise RefusalError("its forward changes what is differentiated, or autocast, on the way")
        return super().create_node(*args, **kwargs)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value that stands for an argument, or for what follows from one."""
        if node.op == "placeholder":
            return _PROXIES[self.argument](node, self)
        inputs = node.all_input_nodes
        # Sizes, and what is computed from these.
        if operation(node) in WITHOUT_VALUES or (inputs and self.plain.issuperset(inputs)):
            self.plain.add(node)
            return _Proxy(node, self)
        return _PROXIES[self.value](node, self)

    def create_arg(self, a: Any) -> Any:
        """As that of fx, which would take some of our values for constants."""
        if isinstance(a, _Inside):
            raise RefusalError("its forward looks into its arguments")
        return a.node if isinstance(a, _Proxy) else super().create_arg(a)


class _Proxy(fx.Proxy):
    """A value of no particular class. What is written into it is recorded, or refused."""

    _is_param = _is_buffer = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("node", "tracer"):
            raise RefusalError("its forward sets attributes of tensors")
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Proxy:
        raise RefusalError("its forward copies tensors in Python")

    def __repr__(self) -> str:
        raise RefusalError("its forward writes tensors as text")

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record a function of torch that is given a value of whichever class."""
        name = getattr(orig_method, "__name__", "")
        if name in ("__set__", "__delete__"):
            raise RefusalError("its forward sets attributes of tensors")
        if name == "__get__":
            attribute = str(orig_method.__self__.__name__)
            value = (args or ())[0]
            return value.tracer.create_proxy("call_function", getattr, (value, attribute), {})
        record: Any = fx.Proxy.__torch_function__
        return record.__func__(_Proxy, orig_method, types, args, kwargs)


def _recorded(augmented: Callable[[Any, Any], Any]) -> Callable[[_Proxy, Any], Any]:
    return lambda self, other: self.tracer.create_proxy("call_function", augmented, (self, other), {})


for _name, _function in AUGMENTED.items():
    setattr(_Proxy, f"__{_name}__", _recorded(_function))


class _TensorProxy(_Proxy, Tensor):  # type: ignore[misc]
    """A value that is a tensor to Python and to C++, which would believe a mere claim and crash; it has no values."""

    @staticmethod
    def __new__(cls, node: fx.Node, tracer: fx.Tracer) -> _TensorProxy:
        made: _TensorProxy = Tensor._make_wrapper_subclass(cls, (0,), device=torch.device("meta"))
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise RefusalError("its forward computes past Python")


class _Inside(_TensorProxy):
    """What C++ finds when it looks into a list of tensors, and so asks us."""


class _ListProxy(_Proxy, list[Any]):
    """A value that is a list of tensors to Python and to C++."""

    @staticmethod
    def __new__(cls, node: fx.Node, tracer: fx.Tracer) -> _ListProxy:
        return list.__new__(cls)

    def __init__(self, node: fx.Node, tracer: fx.Tracer) -> None:
        _Proxy.__init__(self, node, tracer)
        list.append(self, _Inside(node, tracer))


_PROXIES: dict[type, Callable[[fx.Node, fx.Tracer], fx.Proxy]] = {
    Tensor: _TensorProxy,
    list: _ListProxy,
    object: _Proxy,
}
