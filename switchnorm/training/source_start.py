"""Starting layers where a checkpoint of another normalization was, as `switchnorm.switch` starts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d, channels_of, norm_of
from switchnorm.layers.weight_standardized import WS_CONV
from switchnorm.surgery.carry import LOGITS
from switchnorm.surgery.graph import wire
from switchnorm.surgery.start import begin, has_learned, source_of, start_of, tied_parameters

#: What SN and SSN mix unless they are told otherwise, where they have running statistics, by how many logits they have;
#: layers of flat inputs have two.
_MIXED = {3: ("instance", "layer", "batch"), 2: ("layer", "batch")}


class Started(NamedTuple):
    """What was set otherwise than a checkpoint has it.

    Args:
        logits: keys of logits, which had none there.
        fitted: names of layers whose scale and shift make up for other statistics.
        importance: names of layers whose logits were another normalizer's there, SSN's of SN or SN's of SSN, and have
            become those of the same importance.
    """

    logits: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    importance: tuple[str, ...] = ()


#: Where a checkpoint says all there is to say.
NOTHING = Started()


def counterparts(model: nn.Module, theirs: Mapping[str, Tensor], named: Mapping[str, str]) -> dict[str, nn.Module]:
    """What layers were in a checkpoint where it has another normalizer, Batch Norm, SN or SSN, by the layers' names.

    Args:
        model: the network.
        theirs: the checkpoint.
        named: the checkpoint's key for each key of the network that it has.
    """
    found = {name: _layer_of(name, module, theirs, named) for name, module in model.named_modules()}
    return {name: old for name, old in found.items() if old is not None}


@torch.no_grad()
def start_from(model: nn.Module, before: Mapping[str, nn.Module], start: str) -> Started:
    """Start layers at what they were in a checkpoint, that has been loaded.

    Args:
        model: the network.
        before: as `counterparts` finds it.
        start: as of `switchnorm.switch`; "equal", and "auto" for what shows no signs of training, changes nothing but
            logits that are another normalizer's.
    """
    keeps = {name for name, old in before.items() if start == "source" or (start == "auto" and has_learned(old))}
    tied, standardized = tied_parameters(model), _standardized(model) if before else set()
    logits: list[str] = []
    fitted: list[str] = []
    importance: list[str] = []
    for name, old in before.items():
        new = model.get_submodule(name)
        both = hasattr(old, LOGITS[0]) and hasattr(new, LOGITS[0])
        if name not in keeps and not both:
            continue
        shared = {id(old.weight)} if any(id(p) in tied for p in new.parameters(recurse=False)) else set()
        found = start_of(old, new, start, has_learned(old), shared, new in standardized)
        begin(found, source_of(old), new)
        if both:
            importance += [name] if name in keeps else []
        elif found.importance is not None:
            logits += [f"{name}.{each}" for each in LOGITS]
        fitted += [name] if found.fits else []
    return Started(tuple(logits), tuple(fitted), tuple(importance))


@torch.no_grad()
def _layer_of(name: str, new: Any, theirs: Mapping[str, Tensor], named: Mapping[str, str]) -> nn.Module | None:
    """The layer of a checkpoint that became `new`, with its state; None where it is not known, or the same."""
    norm, channels = norm_of(new), channels_of(new)
    key = named.get(f"{name}.weight")
    if norm is None or channels is None or key is None:
        return None
    prefix = key.removesuffix("weight")
    logits = theirs.get(prefix + LOGITS[0])
    eps = float(getattr(new, "eps", 1e-5))
    if logits is None:
        old: nn.Module = nn.BatchNorm2d(channels, eps=eps)
        same = isinstance(new, nn.modules.batchnorm._BatchNorm)
    else:
        mixed = getattr(new, "statistics", None) or _MIXED.get(logits.numel(), ())
        if len(mixed) != logits.numel():
            return None
        kind = SparseSwitchNorm2d if f"{prefix}radius" in theirs else SwitchNorm2d
        old = kind(channels, eps=eps, statistics=mixed)
        same = norm_of(old) is norm
    empty = {each: value for each, value in old.state_dict().items() if each != "num_batches_tracked"}
    state = {each: t for each in empty if (t := theirs.get(prefix + each)) is not None}
    if same or any(each not in state or state[each].numel() != value.numel() for each, value in empty.items()):
        return None
    old.load_state_dict({each: value.reshape(empty[each].shape) for each, value in state.items()}, strict=False)
    return old


def _standardized(model: nn.Module) -> set[nn.Module]:
    """The normalizations that a convolution with standardized weights feeds."""
    kinds = tuple(WS_CONV.values())
    if not any(isinstance(module, kinds) for module in model.modules()):
        return set()
    return {norm for conv, norm in wire(model).feeds.items() if isinstance(conv, kinds)}
