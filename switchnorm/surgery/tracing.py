"""Symbolic graphs of a model whose forward pass others wrote: of the whole, or of the parts that can be traced."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from switchnorm.surgery.operations import WITHOUT_VALUES
from switchnorm.surgery.replica import Replica, replicated

# What a forward pass of others may raise when it is run on symbols. It may also want to leave.
FAILURES = (Exception, SystemExit)


@dataclasses.dataclass(frozen=True)
class Part:
    """A module whose forward pass was traced by itself.

    Attributes:
        graph: what was recorded, with paths from the model; where tracing failed, up to there.
        called: the modules that the nodes call.
        frames: for each node the modules in whose forward passes it stands, from the outside in.
        where: for each node the path of the innermost of these.
        abandoned: the nodes of forward passes inside of it that could not be traced, and became one node each.
        kept: the nodes that a forward pass leaves in an attribute of a module, where others may look for them.
    """

    graph: fx.Graph
    called: dict[fx.Node, nn.Module]
    frames: dict[fx.Node, tuple[nn.Module, ...]]
    where: dict[fx.Node, str]
    abandoned: set[fx.Node]
    kept: set[fx.Node]


@dataclasses.dataclass(frozen=True)
class Traced:
    """What tracing a model found.

    Attributes:
        parts: the graphs, that of the model first; the others are of modules that no graph before enters.
        failed: for each module whose forward pass could not be traced, the reason.
        reached: all modules that some graph calls or enters.
        read: the leaves whose parameters or buffers a forward pass has come by without asking the leaf, as by
            `parameters()`, and computes with.
    """

    parts: list[Part]
    failed: dict[nn.Module, str]
    reached: set[nn.Module]
    read: set[nn.Module] = dataclasses.field(default_factory=set)


def trace_parts(
    model: nn.Module,
    is_leaf: Callable[[nn.Module], bool],
    *,
    is_apart: Callable[[nn.Module], bool] | None = None,
    evaluation: bool = False,
) -> Traced:
    """Trace the forward pass of `model`, and by themselves those of its modules that this does not reach.

    Nothing of the model or of the process is different afterwards.

    Args:
        model: any model.
        is_leaf: of which modules nobody asks for the inside.
        is_apart: which modules others see as one node, and are traced by themselves.
        evaluation: trace what the model does in evaluation mode, in whichever it is.
    """
    try:
        with replicated(model) as replica:
            for twin in replica.root.modules() if evaluation else ():
                vars(twin)["training"] = False
            return _Parts(model, replica, is_leaf, is_apart or (lambda _: False)).traced()
    except FAILURES as error:
        return Traced([], {model: words(error)}, set())


def tensors_read(part: Part, names: Mapping[nn.Module, Sequence[str]]) -> Iterator[tuple[str, str, fx.Node]]:
    """The parameters and buffers that a graph reads past a call: the path of their module, their name, and the node.

    Args:
        part: of a model.
        names: all paths of the model's modules.
    """
    for node in part.graph.nodes:
        if node.op == "get_attr":
            owner, _, tensor = str(node.target).rpartition(".")
            for root in names[part.frames[node][0]] if part.frames[node] else [""]:
                yield f"{root}.{owner}" if root and owner else root or owner, tensor, node


def words(error: BaseException) -> str:
    """The kind of an error and its first line, shortened."""
    try:
        said = str(error).strip().partition("\n")[0][:80]
    except Exception:
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def defaults(model: nn.Module) -> dict[str, Any]:
    """The arguments of a forward pass that may be left out, and what they then are."""
    parameters = inspect.signature(type(model).forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


class _Parts:
    """Traces the parts of one model, one after another."""

    def __init__(
        self,
        model: nn.Module,
        replica: Replica,
        is_leaf: Callable[[nn.Module], bool],
        is_apart: Callable[[nn.Module], bool],
    ) -> None:
        self.replica = replica
        self.is_leaf = is_leaf
        self.is_apart = is_apart
        named = [(name, module, replica.twin(module)) for name, module in model.named_modules()]
        self.originals = {twin: module for _, module, twin in named if twin is not None}
        self.paths = {twin: name for name, _, twin in named if twin is not None}
        self.names = {module: name for name, module, _ in named}
        self.result = Traced([], {}, set())
        held = [(twin, leaf) for twin, leaf in self.originals.items() if is_leaf(leaf)]
        self.reads = _Reads({id(t): leaf for twin, leaf in held for t in _tensors(twin)}, self.result.read)

    def traced(self) -> Traced:
        self.visit(self.replica.root)
        return self.result

    def visit(self, twin: nn.Module) -> None:
        """Trace a module that was not reached, and then what its own forward pass does not reach."""
        original = self.originals.get(twin)
        if original is None or self.is_leaf(original) or not any(map(self.is_leaf, original.modules())):
            return
        # What failed inside of another may have been given what it cannot take.
        again = self.result.failed.pop(original, None)
        if (again or original not in self.result.reached) and type(original).forward is not nn.Module.forward:
            self.trace(twin)
        for child in twin._modules.values():
            if child is not None:
                self.visit(child)

    def trace(self, twin: nn.Module) -> None:
        tracer = _Tracer(self)
        original = self.originals[twin]
        self.result.reached.add(original)
        tracer.stack.append(original)
        try:
            with torch.device("meta"), _custom_functions(tracer), self.reads:
                tracer.trace(twin, self.replica.copied(defaults(original)))
        except FAILURES as error:
            self.result.failed[original] = words(error)
        if hasattr(tracer, "graph"):
            part = Part(tracer.graph, tracer.called, tracer.frames, tracer.where, tracer.abandoned, self.kept(tracer))
            self.result.parts.append(part)

    def kept(self, tracer: _Tracer) -> set[fx.Node]:
        """The nodes of a graph that attributes of modules hold."""
        held = [
            value
            for twin in self.originals
            for name, value in vars(twin).items()
            if name not in ("_parameters", "_buffers", "_modules")
        ]
        return {proxy.node for value in held for proxy in _proxies(value, 3) if proxy.tracer is tracer}


class _Tracer(fx.Tracer):
    """Traces down to functions, stopping at leaves, and at modules that cannot be traced."""

    # Otherwise reading a buffer gives the tensor itself.
    proxy_buffer_attributes = True

    def __init__(self, parts: _Parts) -> None:
        super().__init__()
        self.parts = parts
        self.stack: list[nn.Module] = []
        self.called: dict[fx.Node, nn.Module] = {}
        self.frames: dict[fx.Node, tuple[nn.Module, ...]] = {}
        self.where: dict[fx.Node, str] = {}
        self.abandoned: set[fx.Node] = set()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace into `m`, or make it a node of the graph."""
        original = self.parts.originals.get(m)
        if original is None:
            return self._unnamed(m, forward, args, kwargs)
        if self.parts.is_apart(original):
            return self.record(original, "call_module", self.parts.paths[m], args, kwargs)
        self.parts.result.reached.add(original)
        if not self.parts.is_leaf(original) and not isinstance(original, torch.jit.ScriptModule):
            self.stack.append(original)
            before = len(self.frames)
            try:
                return forward(*args, **kwargs)
            except FAILURES as error:
                self.parts.result.failed[original] = words(error)
                self.abandoned.update(list(self.frames)[before:])
            finally:
                self.stack.pop()
        return self.record(original, "call_module", self.parts.paths[m], args, kwargs)

    def _unnamed(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A module that is no part of the model by its names, such as one in a plain list."""
        try:
            return forward(*args, **kwargs)
        except FAILURES:
            return self.create_proxy("call_function", unknown, args, kwargs)

    def record(self, original: nn.Module, kind: str, target: Any, args: Any, kwargs: Any) -> fx.Proxy:
        proxy = self.create_proxy(kind, target, args, kwargs)
        self.called[proxy.node] = original
        return proxy

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """As that of fx, and remembers whose forward pass it was."""
        node = super().create_node(*args, **kwargs)
        self.frames[node] = tuple(self.stack)
        self.where[node] = self.parts.names[self.stack[-1]] if self.stack else ""
        return node

    def create_arg(self, a: Any) -> Any:
        """As that of fx; of what it does not know, the values that are in it."""
        try:
            return super().create_arg(a)
        except (NotImplementedError, NameError, TypeError, AttributeError):
            return tuple(dict.fromkeys(proxy.node for proxy in _proxies(a, 4)))


class _Reads(TorchFunctionMode):
    """Notes of which layers the tensors are computed with at once, which leaves no node in a graph.

    Args:
        owners: the layers by the `id` of a tensor of theirs, which lives on.
        read: takes them.
    """

    def __init__(self, owners: dict[int, nn.Module], read: set[nn.Module]) -> None:
        super().__init__()
        self._owners, self._found = owners, read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # What is read of a tensor is a property, whose getter is called `__get__`.
        asked = getattr(func, "__self__", func) if getattr(func, "__name__", "") == "__get__" else func
        if getattr(asked, "__name__", "") not in WITHOUT_VALUES:
            for value in (*args, *kwargs.values()):
                for each in value if isinstance(value, (list, tuple)) else (value,):
                    if isinstance(each, torch.Tensor) and id(each) in self._owners:
                        self._found.add(self._owners[id(each)])
        return func(*args, **kwargs)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]


def unknown(*args: Any, **kwargs: Any) -> Any:
    """A node of a graph that computes something unknown."""
    raise NotImplementedError


def _proxies(value: Any, depth: int) -> Iterator[fx.Proxy]:
    if isinstance(value, fx.Proxy):
        yield value
    elif depth and not isinstance(value, (torch.Tensor, nn.Module, type)):
        held = list(value.values()) if isinstance(value, dict) else []
        held += list(value) if isinstance(value, (list, tuple, set)) else []
        for inner in (*held, *getattr(value, "__dict__", {}).values()):
            yield from _proxies(inner, depth - 1)


@contextmanager
def _custom_functions(tracer: _Tracer) -> Iterator[None]:
    """Record operations with a gradient of their own as what they are: unknown."""
    own = vars(torch.autograd.Function)["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if any(True for _ in _proxies(args, 2)):
            return tracer.create_proxy("call_function", unknown, args, kwargs)
        return own.__get__(None, cls)(*args, **kwargs)

    torch.autograd.Function.apply = classmethod(apply)
    try:
        yield
    finally:
        torch.autograd.Function.apply = own
