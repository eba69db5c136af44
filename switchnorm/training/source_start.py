"""Starting layers where a checkpoint of another normalization was, as `switchnorm.switch` starts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.layers import channels_of, norm_of
from switchnorm.layers.weight_standardized import WS_CONV
from switchnorm.surgery.carry import AFFINE, LOGITS
from switchnorm.surgery.graph import wire
from switchnorm.surgery.start import begin, has_learned, source_of, start_of, tied_parameters

_RUNNING = ("running_mean", "running_var")


class Started(NamedTuple):
    """What was set beyond what a checkpoint has.

    Args:
        logits: keys of logits, which had none there.
        fitted: names of layers whose scale and shift make up for other statistics.
    """

    logits: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()


#: Where a checkpoint says all there is to say.
NOTHING = Started()


def counterparts(model: nn.Module, theirs: Mapping[str, Tensor], named: Mapping[str, str]) -> dict[str, nn.BatchNorm2d]:
    """What layers of other normalizers were in a checkpoint where it has Batch Norm, by the layers' names.

    Args:
        model: the network.
        theirs: the checkpoint.
        named: the checkpoint's key for each key of the network that it has.
    """
    found = {name: _batch_norm(name, module, theirs, named) for name, module in model.named_modules()}
    return {name: old for name, old in found.items() if old is not None}


@torch.no_grad()
def start_from(model: nn.Module, before: Mapping[str, nn.BatchNorm2d], start: str) -> Started:
    """Start layers at what they were in a checkpoint, that has been loaded.

    Args:
        model: the network.
        before: as `counterparts` finds it.
        start: as of `switchnorm.switch`; "equal", and "auto" for what shows no signs of training, changes nothing.
    """
    before = {name: old for name, old in before.items() if start == "source" or (start == "auto" and has_learned(old))}
    tied, standardized = tied_parameters(model), _standardized(model) if before else set()
    logits: list[str] = []
    fitted: list[str] = []
    for name, old in before.items():
        new = model.get_submodule(name)
        shared = {id(old.weight)} if any(id(p) in tied for p in new.parameters(recurse=False)) else set()
        found = start_of(old, new, start, shared, new in standardized)
        begin(found, source_of(old), new)
        logits += [f"{name}.{each}" for each in LOGITS if found.importance is not None]
        fitted += [name] if found.fits else []
    return Started(tuple(logits), tuple(fitted))


@torch.no_grad()
def _batch_norm(name: str, new: Any, theirs: Mapping[str, Tensor], named: Mapping[str, str]) -> nn.BatchNorm2d | None:
    """The layer of a checkpoint that became `new`, with its state; None where it was no Batch Norm, or the same."""
    norm, channels = norm_of(new), channels_of(new)
    key = named.get(f"{name}.weight")
    if norm is None or channels is None or key is None or isinstance(new, nn.modules.batchnorm._BatchNorm):
        return None
    prefix = key.removesuffix("weight")
    state = {each: theirs.get(prefix + each) for each in (*AFFINE, *_RUNNING)}
    if any(t is None or t.numel() != channels for t in state.values()) or prefix + LOGITS[0] in theirs:
        return None
    old = nn.BatchNorm2d(channels, eps=getattr(new, "eps", 1e-5))
    for each, value in state.items():
        assert value is not None
        getattr(old, each).copy_(value.flatten())
    return old


def _standardized(model: nn.Module) -> set[nn.Module]:
    """The normalizations that a convolution with standardized weights feeds."""
    kinds = tuple(WS_CONV.values())
    if not any(isinstance(module, kinds) for module in model.modules()):
        return set()
    return {norm for conv, norm in wire(model).feeds.items() if isinstance(conv, kinds)}
