"""Normalization, addition and ReLU in the graph of one module's forward pass, and their fusion."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.module import _has_any_global_hook

from switchnorm.layers import kind_of, norm_of
from switchnorm.surgery.shallow import AUGMENTED, RefusalError

_RELUS = frozenset((nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_, "relu", "relu_"))
_SUMS = frozenset((operator.add, torch.add, "add"))
# These write into their first operand, which must be the normalization's own output.
_SUMS_IN_PLACE = frozenset((AUGMENTED["iadd"], "add_"))
_CALLS = ("call_function", "call_method")


class Site(NamedTuple):
    """A call of a normalization that was fused; paths are relative to the module whose forward pass calls it.

    Attributes:
        norm: the path of the normalization.
        residual: whether a residual is added before the ReLU.
        idle: the modules that are no longer called, ReLU or identities, and their classes.
    """

    norm: str
    residual: bool
    idle: tuple[tuple[str, type[nn.Module]], ...]


def add_relu(norm: nn.Module, x: Tensor, residual: Any) -> Tensor:
    """relu(norm(x) + residual), fused where that is the same: not where the sum broadcasts or changes the dtype."""
    if isinstance(residual, Tensor) and residual.shape == x.shape and residual.dtype == x.dtype:
        fused: Tensor = norm(x, residual, "relu")
        return fused
    return (norm(x) + residual).relu()


def layer_refusal(norm: nn.Module) -> str | None:
    """Why a layer must not end with more than its normalization; None where it may."""
    kind = kind_of(norm)
    if kind is None or kind.base is not type(norm) or not _fuses(norm):
        return f"{type(norm).__name__} is a subclass"
    if "forward" in vars(norm):
        return "has a forward of its own"
    if (activation := getattr(norm, "activation", None)) is not None:
        return f"already ends with {activation}"
    return "has hooks" if hooked(norm) else None


def is_plain(module: nn.Module, cls: type[nn.Module]) -> bool:
    """Whether a module computes what `cls` does, and nobody would notice if it were not called."""
    return type(module) is cls and "forward" not in vars(module) and not hooked(module)


def hooked(module: nn.Module) -> bool:
    """Whether hooks watch a module."""
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(own or _has_any_global_hook())


def _fuses(module: nn.Module) -> bool:
    """Whether a module is a normalization that ends with a residual and an activation where it is asked to."""
    norm = norm_of(module)
    return norm is not None and norm.fuses


def norm_calls(graph: fx.Graph, module: nn.Module) -> list[fx.Node]:
    """The calls of this library's normalizations."""
    calls = [node for node in graph.nodes if node.op == "call_module"]
    return [node for node in calls if _fuses(module.get_submodule(str(node.target)))]


def fuse_graph(graph: fx.Graph, module: nn.Module) -> list[tuple[str, Site | str]]:
    """Fuse in place what can be fused: for each call of a normalization its path, and the site or why there is none."""
    found: list[tuple[str, Site | str]] = []
    for node in norm_calls(graph, module):
        path = str(node.target)
        try:
            found.append((path, _replace(graph, _chain(node, module), module)))
        except RefusalError as error:
            found.append((path, str(error)))
    graph.lint()
    return found


class _Chain(NamedTuple):
    """The calls that become one: a normalization, an addition or none, ReLU, and identities between these."""

    norm: fx.Node
    add: fx.Node | None
    relu: fx.Node
    identities: list[fx.Node]


def _chain(norm: fx.Node, module: nn.Module) -> _Chain:
    """What follows a normalization."""
    refusal = layer_refusal(module.get_submodule(str(norm.target)))
    if refusal:
        raise RefusalError(refusal)
    if len(norm.args) != 1 or norm.kwargs:
        raise RefusalError("is called with more than its input")
    identities: list[fx.Node] = []
    last = _only_user(norm, module, identities)
    operand = identities[-1] if identities else norm
    add = last if _is_sum(last, operand) else None
    if add is not None:
        last = _only_user(add, module, identities)
    if not _is_relu(last, module):
        raise RefusalError("no ReLU follows" if add is None else "no ReLU follows the sum")
    _check_order(norm, add, last)
    return _Chain(norm, add, last, identities)


def _only_user(node: fx.Node, module: nn.Module, identities: list[fx.Node]) -> fx.Node:
    """The one node that uses another's output; identities on the way there are collected."""
    while True:
        if len(node.users) != 1:
            raise RefusalError(f"{node.name} is used {len(node.users)} times")
        (node,) = node.users
        if node.op != "call_module" or not is_plain(module.get_submodule(str(node.target)), nn.Identity):
            return node
        identities.append(node)


def _is_sum(node: fx.Node, operand: fx.Node) -> bool:
    if node.op not in _CALLS or len(node.args) != 2 or node.kwargs or node.args[0] is node.args[1]:
        return False
    return node.target in _SUMS or (node.target in _SUMS_IN_PLACE and node.args[0] is operand)


def _is_relu(node: fx.Node, module: nn.Module) -> bool:
    if node.op == "call_module":
        return len(node.args) == 1 and not node.kwargs and is_plain(module.get_submodule(str(node.target)), nn.ReLU)
    inplace = len(node.args) == 2 or list(node.kwargs) == ["inplace"]
    alone = len(node.args) == 1 and not node.kwargs
    return node.op in _CALLS and node.target in _RELUS and (inplace or alone)


def _check_order(norm: fx.Node, add: fx.Node | None, relu: fx.Node) -> None:
    """The fused call takes ReLU's place: what happens between must not touch what the normalization reads or writes."""
    node = norm.next
    while node is not relu:
        if node is not add and (norm.args[0] in node.all_input_nodes or node.target == norm.target):
            raise RefusalError("its input or itself is used again before the ReLU")
        if node is not add and _in_place(node):
            raise RefusalError("something is written in place before the ReLU")
        node = node.next


def _in_place(node: fx.Node) -> bool:
    if node.op not in _CALLS:
        return False
    if node.target in AUGMENTED.values():
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") or "out" in node.kwargs or bool(node.kwargs.get("inplace"))


def _replace(graph: fx.Graph, chain: _Chain, module: nn.Module) -> Site:
    norm, add, relu, identities = chain
    path = str(norm.target)
    with graph.inserting_before(relu):
        if add is None:
            fused = graph.call_module(path, (norm.args[0], None, "relu"))
        else:
            (residual,) = (operand for operand in add.args if operand not in (norm, *identities))
            fused = graph.call_function(add_relu, (graph.get_attr(path), norm.args[0], residual))
    relu.replace_all_uses_with(fused)
    idle = [str(node.target) for node in (*identities, relu) if node.op == "call_module"]
    replaced = {relu, add, norm, *identities}
    for node in reversed(graph.nodes):
        if node in replaced:
            graph.erase_node(node)
    return Site(path, add is not None, tuple((name, type(module.get_submodule(name))) for name in idle))
