"""Layers that see regions of pictures: a batch of these is no batch of pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType

from torch import nn

from switchnorm.layers import has_batch_statistics
from switchnorm.surgery.graph import is_leaf
from switchnorm.surgery.operations import operation
from switchnorm.surgery.pools import BY_POOLS, is_pool
from switchnorm.surgery.tracing import Part, trace_parts

# In the name of what cuts them: torchvision's roi_align and MultiScaleRoIAlign, detectron2's ROIPooler, mmdetection's
# SingleRoIExtractor, and most attributes that hold such a one.
_CUTS = re.compile(r"roi_?(align|pool|extract)", re.IGNORECASE)
# How far a forward pass is followed into the functions that it calls.
_DEPTH = 3


@dataclass(frozen=True)
class Seen:
    """Layers that see regions of the same pictures.

    Attributes:
        pools: what cuts these; none where something in the model cuts whose calls are not understood.
        layers: the names of the layers with batch statistics that see the regions, or may see them.
    """

    pools: tuple[nn.Module, ...]
    layers: tuple[str, ...]


def find_regions(model: nn.Module) -> list[Seen]:
    """The layers with batch statistics that see regions of pictures, or may see them, and what cuts these regions.

    What cuts regions tells so by its name, or by a name in the code of its methods. In the module around it, the first
    that has convolutions, linear layers or normalizations, all layers count that no graph shows to see pictures.

    Args:
        model: any model; nothing is changed.
    """
    names = {module: name for name, module in model.named_modules()}
    pools = [module for module in names if is_pool(module)]
    inside = {inner for pool in pools for inner in pool.modules()}
    strange = {module for module in names if module not in inside and _cuts_itself(module)}
    cutters = {*pools, *strange}
    if not cutters:
        return []
    leaves = {module for module in names if is_leaf(module)}
    of_regions: set[nn.Module] = set()
    of_pictures: defaultdict[nn.Module, set[str]] = defaultdict(set)
    for part in trace_parts(model, leaves.__contains__).parts:
        _follow(part, cutters, of_regions, of_pictures)
    holders = list(dict.fromkeys(_holder(model, names[cutter], leaves) for cutter in names if cutter in cutters))
    for holder in holders:
        around = {"", *_prefixes(names[holder])}
        of_regions.update(inner for inner in holder.modules() if around.isdisjoint(of_pictures[inner]))
    seeing = [module for module in names if module in of_regions and has_batch_statistics(module)]
    groups = [
        ([pool for pool in pools if pool in around], [layer for layer in seeing if layer in around])
        for around in _outermost(holders)
    ]
    if strange or set(seeing) - {layer for _, layers in groups for layer in layers}:
        groups = [([] if strange else pools, seeing)]
    return [Seen(tuple(by), tuple(names[layer] for layer in layers)) for by, layers in groups if layers]


def region_layers(model: nn.Module) -> list[str]:
    """The names of the layers with batch statistics that see regions of pictures, or may see them."""
    found = {name for regions in find_regions(model) for name in regions.layers}
    return [name for name, _ in model.named_modules() if name in found]


def _outermost(modules: Sequence[nn.Module]) -> list[set[nn.Module]]:
    """What is inside of each of some modules that is inside of no other of them."""
    inside = [set(module.modules()) for module in modules]
    return [own for own in inside if not any(own < other for other in inside)]


def ghost_refusal(name: str, nearest: str) -> str:
    """Why a layer that sees regions takes no ghost batches, and the nearest that is possible."""
    return (
        f"layer {name!r} sees regions of pictures, or may see them, which ghost batches would group instead of "
        f"pictures; {nearest}"
    )


def _follow(
    part: Part, cutters: set[nn.Module], of_regions: set[nn.Module], of_pictures: dict[nn.Module, set[str]]
) -> None:
    """Tell the modules downstream of a cut from the others, which see pictures if the module that is traced does."""
    cut: set[object] = set()
    for node in part.graph.nodes:
        module = part.called.get(node)
        inner = set() if module is None else set(module.modules())
        if not cut.isdisjoint(node.all_input_nodes):
            cut.add(node)
            of_regions.update(inner)
        elif _CUTS.search(operation(node)) or not cutters.isdisjoint(inner):
            cut.add(node)  # What happens inside of a module that was not traced is not known.
        else:
            root = part.where[next(iter(part.graph.nodes))]
            for each in inner:
                of_pictures[each].add(root)


def _holder(model: nn.Module, name: str, leaves: set[nn.Module]) -> nn.Module:
    """The first module around another, or that itself, which has layers with weights or statistics."""
    while name and leaves.isdisjoint(model.get_submodule(name).modules()):
        name = name.rpartition(".")[0]
    return model.get_submodule(name)


def _prefixes(name: str) -> Iterator[str]:
    """The names of the modules around one, and its own."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _cuts_itself(module: nn.Module) -> bool:
    """Whether a module cuts regions out of maps other than by pools inside of it, by the names in its code.

    How it is made says nothing. A class whose other cuts are of masks, say, tells so by an attribute
    `regions_by_pools` that is true.
    """
    pools = {inner for inner in module.modules() if inner is not module and is_pool(inner)}
    if not pools and _CUTS.search(type(module).__name__):
        return True
    own = [base for base in type(module).__mro__ if not base.__module__.startswith(("torch.nn.", "builtins"))]
    methods = [f for base in own if not _by_pools(base) for f in vars(base).values() if isinstance(f, FunctionType)]
    found = {name for f in methods if f.__name__ != "__init__" for name in _names(f, set(), _DEPTH)}
    return any(_CUTS.search(name) and not _holds_pools(module, name, pools) for name in found)


def _by_pools(cls: type) -> bool:
    """Whether what a class itself defines cuts maps by pools alone."""
    return bool(vars(cls).get("regions_by_pools")) or f"{cls.__module__}.{cls.__qualname__}" in BY_POOLS


def _holds_pools(module: nn.Module, name: str, pools: set[nn.Module]) -> bool:
    """Whether a name stands for pools: their class's, or an attribute's, of a module or of one inside of it, that is a
    pool, has one inside, or is None.
    """
    if name in {type(pool).__name__ for pool in pools}:
        return True
    held = [each[name] for inner in module.modules() for each in (inner._modules, vars(inner)) if name in each]
    return len(held) > 0 and all(
        each is None or (isinstance(each, nn.Module) and not pools.isdisjoint(each.modules())) for each in held
    )


def _names(function: FunctionType, seen: set[FunctionType], depth: int) -> Iterator[str]:
    """The names that a function uses, and those that the functions use which it calls."""
    seen.add(function)
    for name in _code_names(function.__code__):
        yield name
        called = function.__globals__.get(name)
        if depth and isinstance(called, FunctionType) and called not in seen:
            yield from _names(called, seen, depth - 1)


def _code_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_names(constant)
