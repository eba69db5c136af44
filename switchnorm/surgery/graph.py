"""Who feeds whom: how convolutions and normalizations of a model are connected, found without running it."""

from __future__ import annotations

import copy
import inspect
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.layers import channels_of
from switchnorm.surgery.kinds import is_norm, may_be_flat, named_layers

# Functions and methods f with f(a x + b) = a f(x) + f(b) or, for a > 0, f(a x) = a f(x), so that a normalization
# further on undoes the scale of a convolution before. In-place variants count too.
_HOMOGENEOUS = frozenset(
    str.split("""
    add iadd sub isub neg sum mean cat concat concatenate stack maximum minimum amax amin
    clone contiguous to type_as float double half bfloat16
    reshape reshape_as view view_as flatten unflatten squeeze unsqueeze permute transpose swapaxes movedim T mT
    getitem chunk split tensor_split unbind narrow select index_select expand expand_as repeat roll flip
    pad interpolate upsample pixel_shuffle pixel_unshuffle channel_shuffle unfold fold
    relu leaky_relu prelu rrelu
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    dropout dropout1d dropout2d dropout3d stochastic_depth
    """)
)
# Homogeneous in one operand if the others do not depend on the network's input.
_PRODUCTS = frozenset(("mul", "imul", "multiply"))
_QUOTIENTS = frozenset(("div", "truediv", "itruediv", "divide"))
# Modules whose inside could not be traced are known by their name alone.
_HOMOGENEOUS_MODULE = re.compile(r"^(Max|Avg|AdaptiveAvg|AdaptiveMax)Pool|^Drop|^StochasticDepth|^Identity")
# What has a tensor's shape or type has none of its values.
_WITHOUT_VALUES = frozenset(
    str.split("""
    shape ndim dtype device size dim numel new_empty new_zeros new_ones new_full
    empty_like zeros_like ones_like rand_like randn_like
    """)
)

_TRACING = "tracing"


@dataclass(frozen=True)
class Wiring:
    """The connections of a model that surgery needs.

    Attributes:
        sources: for each normalization the convolution or linear layer upstream of it; None where there is none.
        feeds: the convolutions whose output reaches a normalization through linear or positively homogeneous
            operations alone, with that normalization.
        method: how this was found, in words.
    """

    sources: dict[nn.Module, nn.Module | None]
    feeds: dict[nn.Module, nn.Module]
    method: str


def wire(model: nn.Module) -> Wiring:
    """Find the connections of `model` by symbolic tracing; what tracing does not reach, by the order of definition.

    The model is as before afterwards.
    """
    sources, feeds = _by_definition(model)
    try:
        graph = trace(model, _Tracer(), defaults(model))
    except Exception as error:  # The forward pass of others, run on symbols, may raise anything.
        # A wrapper, such as torch.compile's or DataParallel, hides a model that may be traceable.
        children = list(model.children())
        inner = wire(children[0]) if len(children) == 1 else None
        if inner is not None and inner.method == _TRACING:
            return inner
        words = str(error).strip().partition("\n")[0][:80]
        return Wiring(sources, feeds, f"order of definition (tracing failed: {type(error).__name__}: {words})")
    traced = _by_graph(graph, model)
    # For example an auxiliary head, which evaluation leaves out.
    unreached = {conv: norm for conv, norm in feeds.items() if conv not in traced.reached}
    return Wiring(sources | traced.sources, unreached | traced.feeds, _TRACING)


def _by_definition(model: nn.Module) -> tuple[dict[nn.Module, nn.Module | None], dict[nn.Module, nn.Module]]:
    """Sources and feeds as the order of definition suggests: what is defined before runs before."""
    sources: dict[nn.Module, nn.Module | None] = {}
    feeds: dict[nn.Module, nn.Module] = {}
    previous = conv = weighted = None
    for layer in named_layers(model):
        if is_norm(layer):
            # Only of these is it sure that a linear layer, and not a convolution around it, comes before.
            sources[layer] = weighted if may_be_flat(layer) else conv
            if isinstance(previous, _ConvNd) and previous.out_channels == channels_of(layer):
                feeds[previous] = layer
        elif isinstance(layer, (_ConvNd, nn.Linear)):
            weighted = layer
            conv = layer if isinstance(layer, _ConvNd) else conv
        else:
            continue
        previous = layer
    some = next((module for module in model.modules() if isinstance(module, _ConvNd)), None)
    return {norm: source or some for norm, source in sources.items()}, feeds


@dataclass(frozen=True)
class _Traced:
    sources: dict[nn.Module, nn.Module | None]
    feeds: dict[nn.Module, nn.Module]
    reached: set[nn.Module]


def _by_graph(graph: fx.Graph, model: nn.Module) -> _Traced:
    """Sources, feeds and every module that the graph calls."""
    called = {node: model.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"}
    upstream: dict[fx.Node, nn.Module | None] = {}
    sources: dict[nn.Module, nn.Module | None] = {}
    for node in graph.nodes:
        module = called.get(node)
        found = (upstream[source] for source in node.all_input_nodes)
        upstream[node] = module if isinstance(module, (_ConvNd, nn.Linear)) else next(filter(None, found), None)
        if module is not None and is_norm(module) and upstream[node] is not None:
            sources.setdefault(module, upstream[node])

    norms = _norms_downstream(graph, called)
    uses: defaultdict[nn.Module, list[nn.Module | None]] = defaultdict(list)
    for node, module in called.items():
        if isinstance(module, _ConvNd):
            uses[module].append(norms.get(node))
    # A convolution that is used several times must feed a normalization each time.
    feeds = {conv: found[0] for conv, found in uses.items() if found[0] is not None and None not in found}
    return _Traced(sources, feeds, set(called.values()))


def _norms_downstream(graph: fx.Graph, called: dict[fx.Node, nn.Module]) -> dict[fx.Node, nn.Module]:
    """For every node from which homogeneous operations alone lead to a normalization, that normalization."""
    values = _value_nodes(graph)
    norms: dict[fx.Node, nn.Module] = {}
    for node in reversed(graph.nodes):
        for user in node.users:
            if user in called and is_norm(called[user]):
                norms[node] = called[user]
            elif user in norms and _is_homogeneous(user, node, values, called.get(user)):
                norms[node] = norms[user]
            if node in norms:
                break
    return norms


def _value_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on those of the network's input; parameters, shapes and fresh tensors do not."""
    values: set[fx.Node] = set()
    for node in graph.nodes:
        depends = any(source in values for source in node.all_input_nodes) and _operation(node) not in _WITHOUT_VALUES
        if node.op == "placeholder" or depends:
            values.add(node)
    return values


def _is_homogeneous(user: fx.Node, node: fx.Node, values: set[fx.Node], module: nn.Module | None) -> bool:
    """Whether the operation `user` is linear or positively homogeneous in its operand `node`."""
    if module is not None:
        return _HOMOGENEOUS_MODULE.search(type(module).__name__) is not None
    operation = _operation(user)
    if operation in _PRODUCTS or operation in _QUOTIENTS:
        alone = all(other is node or other not in values for other in user.all_input_nodes)
        numerator = operation in _PRODUCTS or user.args[0] is node
        return alone and numerator and user.args.count(node) == 1
    return operation in _HOMOGENEOUS


def _operation(node: fx.Node) -> str:
    """The name of a node's function, method or attribute, without the underscore of in-place variants."""
    if node.target is getattr:
        return str(node.args[1])
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.rstrip("_")


class _Tracer(fx.Tracer):
    """Traces down to functions, stopping at convolutions, linear layers, normalizations and what cannot be traced."""

    # Otherwise reading a buffer gives the true tensor, which a forward pass may write.
    proxy_buffer_attributes = True

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace into `m`, or make it a node of the graph."""
        if not is_norm(m) and not isinstance(m, (_ConvNd, nn.Linear)):
            try:
                return forward(*args, **kwargs)
            except Exception:
                if any(is_norm(inner) for inner in m.modules()):
                    raise
                # No normalization in it: that its inside remains unknown costs little.
        return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


def defaults(model: nn.Module) -> dict[str, Any]:
    """The arguments of a forward pass that may be left out, and what they then are."""
    parameters = inspect.signature(type(model).forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def trace(model: nn.Module, tracer: fx.Tracer, given: dict[str, Any]) -> fx.Graph:
    """The symbolic graph of `model`, which is as before afterwards, with some arguments given."""
    with _undone(model), torch.random.fork_rng(devices=[]):
        return tracer.trace(model, given)


@contextmanager
def _undone(model: nn.Module) -> Iterator[None]:
    """Run foreign forward passes without the hooks that others put there, and undo what they store on modules."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    contents = [(value, copy.copy(value)) for _, attributes in before for value in attributes.values() if _fills(value)]
    for module, _ in before:
        vars(module).update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)
        for value, content in contents:
            value.clear()
            value.extend(content) if isinstance(value, list) else value.update(content)


def _fills(value: Any) -> bool:
    return isinstance(value, (list, dict, set))
