"""The four passes over maps by themselves, for rules that the fused kernels do not cover; one launch each."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from switchnorm.ops.kernels.layouts import packed
from switchnorm.ops.kernels.triton.affine import affine_kernel
from switchnorm.ops.kernels.triton.bundles import Choice, Rule
from switchnorm.ops.kernels.triton.combine import combine_kernel
from switchnorm.ops.kernels.triton.cut import Plan
from switchnorm.ops.kernels.triton.launch import Launches, counters
from switchnorm.ops.kernels.triton.mixture import HEAD, Mixture
from switchnorm.ops.kernels.triton.moments import moments_kernel
from switchnorm.ops.kernels.triton.plan import plan
from switchnorm.ops.kernels.triton.prepare import over_plan
from switchnorm.ops.kernels.triton.sums import sums_kernel
from switchnorm.ops.moments import accumulation_dtype


def moments(x: Tensor) -> Tensor:
    """Mean and population variance of each map, (2, N, C)."""
    cut = plan(x)
    saved, slots, arrivals = _tables(x, HEAD + 2 * cut.samples * cut.channels), None, None
    if cut.pieces > 1:
        slots, arrivals = _tables(x, 2 * cut.samples * cut.pieces * cut.channels), counters(x, cut.tiles * cut.samples)
    _launch(moments_kernel, cut, (x, saved, slots, None, arrivals, *(None,) * 8), (0.0, 0.0))
    return saved[HEAD:].view(2, *x.shape[:2])


def affine(x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """(x - centre) * scale + shift."""
    y = torch.empty_like(x)
    _launch(affine_kernel, plan(x).writing(1), (x, y, *packed(centre, scale, shift)))
    return y


def sums(dy: Tensor, x: Tensor, centre: Tensor) -> Tensor:
    """The sums over each map of dy and of dy * (x - centre), (2, N, C)."""
    cut = plan(x).reading(2)
    slots = _tables(x, 2 * cut.samples * cut.pieces * cut.channels).view(2, cut.samples, cut.pieces, cut.channels)
    _launch(sums_kernel, cut, (dy, x, *packed(centre), slots))
    return slots.sum(2) if cut.pieces > 1 else slots[:, :, 0]


def combine(dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """dy * a + (x - centre) * b + c."""
    dx = torch.empty_like(x)
    of_dy, *of_x = packed(a, centre, b, c)
    _launch(combine_kernel, plan(x).reading(2), (dy, of_dy, x, *of_x, dx))
    return dx


def _tables(x: Tensor, count: int) -> Tensor:
    """Uninitialised numbers of the type in which x's statistics are kept."""
    return x.new_empty(count, dtype=accumulation_dtype(x.dtype))


def _launch(kernel: Any, cut: Plan, tensors: tuple[Tensor | None, ...], numbers: tuple[float, ...] = ()) -> None:
    """Launch over what a plan cuts the first tensor into, as was prepared for the first ones like these."""
    first = tensors[0]
    assert first is not None
    forms = tuple([None if t is None else t.dtype for t in tensors])
    _prepared(kernel, cut, first.device, forms)(*tensors, numbers=numbers)


@functools.lru_cache(maxsize=4096)
def _prepared(kernel: Any, cut: Plan, device: torch.device, forms: tuple[torch.dtype | None, ...]) -> Launches:
    assert forms[0] is not None
    nothing = Mixture(Rule(), False, 0, cut.samples, cut.channels)
    return Launches(over_plan(kernel, cut, nothing, forms[0], CHOICE=Choice(), COUNTED=False))
