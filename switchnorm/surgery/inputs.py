"""Which inputs a layer was made for, and what the one in its place has to take."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from switchnorm.layers import kind_of
from switchnorm.layers.kinds import overrides

# (N, C) and as many dimensions more as anything in vision has.
_ANY = tuple(range(2, 9))
# What layers obey: how many dimensions an input may have, and how many a single sample without a batch has.
_RANKS = ("input_dims", "unbatched_dims")


def carry_ranks(old: nn.Module, new: Any) -> None:
    """Let `new` take inputs of all numbers of dimensions that `old` takes, where it can be told.

    Group and synchronised batch normalization take any, instance normalization also single samples.
    """
    found = {name: vars(old)[name] for name in _RANKS if name in vars(old)}
    if isinstance(old, (nn.GroupNorm, nn.SyncBatchNorm)):
        found["input_dims"] = _ANY
    elif (kind := kind_of(old)) is not None and _checks_by_itself(old, kind.base):
        found["input_dims"] = tuple(rank for rank in _ANY if _takes(old, rank))
    if isinstance(old, _InstanceNorm):
        found["unbatched_dims"] = old._get_no_batch_dim()
    for name, value in found.items():
        if hasattr(new, name):
            setattr(new, name, value)


def _checks_by_itself(old: Any, base: type[nn.Module] | None) -> bool:
    """Whether a batch normalization decides by code of its own how many dimensions its input has."""
    return hasattr(base, "_check_input_dim") and overrides(old, base, "_check_input_dim")


def _takes(old: Any, rank: int) -> bool:
    try:
        old._check_input_dim(torch.empty((1,) * rank, device="meta"))
    except Exception:  # What others check may raise anything.
        return False
    return True


def sees_single_values(new: nn.Module, channels: int | None, flat: bool, single: bool) -> bool:
    """Whether a layer of this kind erases its input, because each of its statistics is over a single value.

    Args:
        new: a fresh layer, not changed by this.
        channels: C.
        flat: whether its input is sure to be (N, C).
        single: whether its input is sure to have maps of a single place.
    """
    if channels is None or not (flat or single):
        return False
    dims = next((dims for dims in getattr(new, "input_dims", None) or (4,) if dims > 2), 4) - 2
    try:
        several = _erased(new, channels, (3,) * dims)
    except Exception:  # A layer of others may raise anything, and will say so when it is called.
        return False
    try:
        alone = _erased(new, channels, () if flat else (1,) * dims)
    except Exception:  # What takes maps, but none of a single place, needs more than one value.
        return not flat
    return bool((alone & ~several).any())


@torch.no_grad()
def _erased(layer: nn.Module, channels: int, sizes: tuple[int, ...]) -> torch.Tensor:
    """(C,): the channels whose output is the same whatever the input is."""
    twin = copy.deepcopy(layer).eval()
    like = next(twin.parameters(), torch.empty(0, device="cpu"))
    reset: Any = getattr(twin, "reset_parameters", None)
    if like.is_meta and reset is not None:  # Without values; those of a fresh layer tell as much.
        twin.to_empty(device="cpu")
        reset()
        like = next(twin.parameters())
    count = 4 * channels * torch.Size(sizes).numel()
    x = torch.arange(count, device=like.device, dtype=torch.float32).mul(1.3).cos().view(4, channels, *sizes)
    with torch.random.fork_rng(devices=[]):
        y = twin(x.to(like.dtype)).float().movedim(1, 0).flatten(1)
    return y.amax(1) - y.amin(1) < 1e-3
