"""Layers that see regions of pictures: a batch of these is no batch of pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn

from switchnorm.layers import has_batch_statistics
from switchnorm.surgery.graph import is_leaf
from switchnorm.surgery.operations import operation
from switchnorm.surgery.tracing import Part, trace_parts

# In the name of what cuts them: torchvision's roi_align and MultiScaleRoIAlign, detectron2's ROIPooler, mmdetection's
# SingleRoIExtractor, and most attributes that hold such a one.
_CUTS = re.compile(r"roi_?(align|pool|extract)", re.IGNORECASE)
# How far a forward pass is followed into the functions that it calls.
_DEPTH = 3


def region_layers(model: nn.Module) -> list[str]:
    """The names of the layers with batch statistics that see regions of pictures, or may see them.

    What cuts regions tells so by its name, or by a name in the code of its methods. In the module around it, the first
    that has convolutions, linear layers or normalizations, all layers count that no graph shows to see pictures.

    Args:
        model: any model; nothing is changed.
    """
    names = {module: name for name, module in model.named_modules()}
    cutters = {module for module in names if _cuts_regions(type(module))}
    if not cutters:
        return []
    leaves = {module for module in names if is_leaf(module)}
    of_regions: set[nn.Module] = set()
    of_pictures: defaultdict[nn.Module, set[str]] = defaultdict(set)
    for part in trace_parts(model, leaves.__contains__).parts:
        _follow(part, cutters, of_regions, of_pictures)
    for holder in {_holder(model, names[cutter], leaves) for cutter in cutters}:
        around = {"", *_prefixes(names[holder])}
        of_regions.update(inner for inner in holder.modules() if around.isdisjoint(of_pictures[inner]))
    return [name for module, name in names.items() if module in of_regions and has_batch_statistics(module)]


def ghost_refusal(name: str) -> str:
    """Why a layer that sees regions takes no ghost batches."""
    return (
        f"layer {name!r} sees regions of pictures, or may see them, which ghost batches would group instead of "
        "pictures; switch it to 'gn', leave ghost out, or ask for it in parts that see pictures, as "
        "ghost(model.backbone, 2)"
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


def _cuts_regions(cls: type[nn.Module]) -> bool:
    """Whether a module cuts regions out of pictures, by the names in its code; how it is made says nothing."""
    own = [base for base in cls.__mro__ if not base.__module__.startswith(("torch.nn.", "builtins"))]
    methods = [f for base in own for f in vars(base).values() if isinstance(f, FunctionType)]
    called = {name for f in methods if f.__name__ != "__init__" for name in _names(f, set(), _DEPTH)}
    return any(map(_CUTS.search, (cls.__name__, *called)))


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
