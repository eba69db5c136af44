"""Who feeds whom: how convolutions and normalizations of a model are connected, found without running it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from switchnorm.layers import channels_of
from switchnorm.surgery.kinds import is_norm, may_be_flat, named_layers
from switchnorm.surgery.operations import (
    NORMALIZING,
    WITHOUT_VALUES,
    is_elementwise,
    is_homogeneous,
    makes_flat,
    makes_single,
    operation,
)
from switchnorm.surgery.tracing import Part, Traced, tensors_read, trace_parts

_FLAT, _SINGLE = "flat", "single"


@dataclass(frozen=True)
class Wiring:
    """The connections of a model that surgery needs.

    Attributes:
        sources: for each normalization the convolution or linear layer upstream of it; None where there is none.
        feeds: the convolutions whose output reaches a normalization through linear or positively homogeneous
            operations alone, with that normalization.
        method: how this was found, in words.
        flat: the normalizations that are sure to take (N, C).
        single: those that are sure to take maps of a single place.
        functions: calls of functions that normalize: the path of the module in whose forward pass they stand, and
            the function's name.
        failed: for each module whose forward pass could not be traced, the reason.
        read: of each layer the parameters and buffers that some forward pass reads past its call.
        uncalled: the normalizations that no forward pass calls, though some read them.
    """

    sources: dict[nn.Module, nn.Module | None]
    feeds: dict[nn.Module, nn.Module] = field(default_factory=dict)
    method: str = "tracing"
    flat: set[nn.Module] = field(default_factory=set)
    single: set[nn.Module] = field(default_factory=set)
    functions: list[tuple[str, str]] = field(default_factory=list)
    failed: dict[nn.Module, str] = field(default_factory=dict)
    read: defaultdict[nn.Module, set[str]] = field(default_factory=lambda: defaultdict(set))
    uncalled: set[nn.Module] = field(default_factory=set)


def wire(model: nn.Module) -> Wiring:
    """Find the connections of `model` by symbolic tracing, part by part where the whole cannot be traced.

    Where no graph shows what is upstream of a normalization, its source is by the order of definition. What a
    convolution feeds is never guessed. The model is as before afterwards.
    """
    # Looked at before tracing, which replaces how modules are called.
    leaves = {module for module in model.modules() if is_leaf(module)}
    traced = trace_parts(model, leaves.__contains__)
    wiring = Wiring(_sources_by_definition(model), method=_method(model, traced), failed=traced.failed)
    uses: defaultdict[nn.Module, list[nn.Module | None]] = defaultdict(list)
    found: dict[nn.Module, nn.Module] = {}
    states: defaultdict[nn.Module, set[str | None]] = defaultdict(set)
    for part in traced.parts:
        for norm, source in _sources(part).items():
            found.setdefault(norm, source)
        norms = _norms_downstream(part)
        for node, module in part.called.items():
            if isinstance(module, _ConvNd):
                uses[module].append(norms.get(node))
        for norm, shape in _shapes(part):
            states[norm].add(shape)
        named = ((part.where[node], operation(node)) for node in part.graph.nodes if node.op in _CALLS)
        wiring.functions.extend(dict.fromkeys((where, name) for where, name in named if name in NORMALIZING))
    _note_reads(model, traced, wiring)
    wiring.sources.update(found)
    # A convolution that is used several times must feed a normalization each time.
    wiring.feeds.update({conv: all_[0] for conv, all_ in uses.items() if all_[0] is not None and None not in all_})
    wiring.flat.update(norm for norm, shapes in states.items() if shapes == {_FLAT})
    wiring.single.update(norm for norm, shapes in states.items() if shapes == {_SINGLE})
    return wiring


def _note_reads(model: nn.Module, traced: Traced, wiring: Wiring) -> None:
    """Note which layers are read past their calls, and which are read alone."""
    names = named_layers(model, inside=True)
    layers = {name: module for module, all_ in names.items() if is_leaf(module) for name in all_}
    for part in traced.parts:
        for path, tensor, _ in tensors_read(part, names):
            if (layer := layers.get(path)) is not None:
                wiring.read[layer].add(tensor)
    unknown = {inner for failed in traced.failed for inner in failed.modules()}
    read = {layer for layer in (*wiring.read, *traced.read) if is_norm(layer)}
    wiring.uncalled.update(read - traced.reached - unknown)


_CALLS = ("call_function", "call_method")


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is a node of the graphs, and its inside of no interest."""
    return is_norm(module) or isinstance(module, (_ConvNd, nn.Linear))


def _method(model: nn.Module, traced: Traced) -> str:
    failed = {module: why for module, why in traced.failed.items() if any(map(is_norm, module.modules()))}
    # A wrapper, such as torch.compile's or DataParallel, hides a model that is traced by itself.
    while model in failed and len(children := list(model.children())) == 1 and children[0] in traced.reached:
        failed.pop(model)
        model = children[0]
    if not failed:
        return "tracing"
    why = next(iter(failed.values()))
    return f"tracing in parts, the rest by order of definition (tracing failed: {why})"


def _sources_by_definition(model: nn.Module) -> dict[nn.Module, nn.Module | None]:
    """Sources as the order of definition suggests: what is defined before runs before."""
    sources: dict[nn.Module, nn.Module | None] = {}
    conv = weighted = None
    for layer in named_layers(model):
        if is_norm(layer):
            # Only of these is it sure that a linear layer, and not a convolution around it, comes before.
            sources[layer] = weighted if may_be_flat(layer) else conv
        elif isinstance(layer, (_ConvNd, nn.Linear)):
            weighted = layer
            conv = layer if isinstance(layer, _ConvNd) else conv
    some = next((module for module in model.modules() if isinstance(module, _ConvNd)), None)
    return {norm: source or some for norm, source in sources.items()}


def _sources(part: Part) -> dict[nn.Module, nn.Module]:
    """The convolution or linear layer upstream of each normalization that has one in a graph."""
    upstream: dict[fx.Node, nn.Module | None] = {}
    sources: dict[nn.Module, nn.Module] = {}
    for node in part.graph.nodes:
        module = part.called.get(node)
        if isinstance(module, (_ConvNd, nn.Linear)):
            upstream[node] = module
        elif module is not None and not is_norm(module) and any(map(is_leaf, module.modules())):
            upstream[node] = None  # Which of the layers inside comes last is not known.
        else:
            # A value that was copied in Python belongs to no graph.
            found = (upstream.get(source) for source in node.all_input_nodes)
            upstream[node] = next(filter(None, found), None)
        if module is not None and is_norm(module) and (source := upstream[node]) is not None:
            sources.setdefault(module, source)
    return sources


def _norms_downstream(part: Part) -> dict[fx.Node, nn.Module]:
    """For every node from which homogeneous operations alone lead to a normalization, that normalization."""
    called, values = part.called, _value_nodes(part.graph)
    norms: dict[fx.Node, nn.Module] = {}
    for node in reversed(part.graph.nodes):
        for user in node.users:
            if user in called and is_norm(called[user]):
                norms[node] = called[user]
            elif user in norms and is_homogeneous(user, node, values, called.get(user)):
                norms[node] = norms[user]
            if node in norms:
                break
    return norms


def _value_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on those of the network's input; parameters, shapes and fresh tensors do not."""
    values: set[fx.Node] = set()
    for node in graph.nodes:
        depends = any(source in values for source in node.all_input_nodes) and operation(node) not in WITHOUT_VALUES
        if node.op == "placeholder" or depends:
            values.add(node)
    return values


def _shapes(part: Part) -> list[tuple[nn.Module, str | None]]:
    """For every call of a normalization whether its input is sure to be flat, or of maps of a single place."""
    values = _value_nodes(part.graph)
    states: dict[fx.Node, str | nn.Linear | None] = {}
    shapes: list[tuple[nn.Module, str | None]] = []
    for node in part.graph.nodes:
        module = part.called.get(node)
        given = [states.get(source) for source in node.all_input_nodes if source in values]
        same = given[0] if given and all(state == given[0] for state in given) else None
        if module is not None and is_norm(module):
            # What a linear layer makes is (N, *, C): its features are channels where nothing lies between.
            linear = isinstance(same, nn.Linear) and same.out_features == channels_of(module)
            shapes.append((module, _FLAT if linear else None if isinstance(same, nn.Linear) else same))
            states[node] = same
        elif isinstance(module, nn.Linear):
            states[node] = _FLAT if same == _FLAT else module
        elif isinstance(module, _ConvNd):
            states[node] = _SINGLE if same == _SINGLE and _keeps_single(module) else None
        elif module is None and makes_flat(node):
            states[node] = _FLAT
        elif module is None and makes_single(node):
            states[node] = _SINGLE
        elif module is None and is_elementwise(node):
            states[node] = same
    return shapes


def _keeps_single(conv: _ConvNd) -> bool:
    """Whether a convolution makes a single place of a single place."""
    if isinstance(conv, _ConvTransposeNd) or isinstance(conv.padding, str):
        return conv.padding == "same" or all(size == 1 for size in conv.kernel_size)
    sizes = zip(conv.kernel_size, conv.padding, conv.dilation, conv.stride, strict=True)
    return all((2 * padding - dilation * (kernel - 1)) // stride == 0 for kernel, padding, dilation, stride in sizes)
