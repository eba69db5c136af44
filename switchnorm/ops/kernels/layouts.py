"""How kernels want tensors to lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def maps(x: Tensor) -> Tensor:
    """View x (N, C, *S), contiguous or channels-last, as (N, C, L) with strides (C L, L, 1) or (C L, 1, C)."""
    return x.flatten(2) if x.dim() > 2 else x[..., None]


#: By the number of dimensions.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def dense(x: Tensor) -> Tensor:
    """x itself where it is contiguous or channels-last, else a copy: channels-last where channels are neighbours."""
    if x.is_contiguous() or _is_channels_last(x):
        return x
    if x.dim() in _CHANNELS_LAST and x.stride(1) == 1 and x.shape[1] > 1:
        return x.contiguous(memory_format=_CHANNELS_LAST[x.dim()])
    return x.contiguous()


def like(t: Tensor, x: Tensor) -> Tensor:
    """t itself where it is laid out as x and of its dtype, else a copy that is."""
    # Strides of dimensions of size 1 are arbitrary, so that two contiguous tensors may differ in them.
    if t.dtype == x.dtype and ((t.is_contiguous() and x.is_contiguous()) or t.stride() == x.stride()):
        return t
    return torch.empty_like(x).copy_(t)


def packed(*tensors: Tensor | None) -> list[Tensor | None]:
    """The same tensors without gaps in memory."""
    return [t if t is None else t.contiguous() for t in tensors]


def _is_channels_last(x: Tensor) -> bool:
    known = _CHANNELS_LAST.get(x.dim())
    if known is None:
        return x.dim() > 2 and x.movedim(1, -1).is_contiguous()
    # PyTorch has this written down; a view costs a small layer a twentieth of its time.
    return x.is_contiguous(memory_format=known)
