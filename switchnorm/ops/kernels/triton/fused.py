"""Both directions with the rule inside: one launch where programs can hold what they need, else two.

All that depends on shapes, dtypes and the call is made once and kept: see `_Forward`.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import ALL, PassGradients, Tables, check_devices, check_lengths
from switchnorm.ops.kernels.triton.affine import normalize_kernel
from switchnorm.ops.kernels.triton.bundles import Choice
from switchnorm.ops.kernels.triton.combine import gradient_kernel
from switchnorm.ops.kernels.triton.cut import Plan
from switchnorm.ops.kernels.triton.launch import Launches, counters, is_elsewhere
from switchnorm.ops.kernels.triton.mixture import Mixture, mixture
from switchnorm.ops.kernels.triton.moments import moments_kernel
from switchnorm.ops.kernels.triton.plan import derived_from_plans, plan
from switchnorm.ops.kernels.triton.prepare import holding_all, over_plan
from switchnorm.ops.kernels.triton.resident import resident_gradient_kernel, resident_normalize_kernel
from switchnorm.ops.kernels.triton.sums import gradient_sums_kernel
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.ops.projection import GIVEN, Call, Moved
from switchnorm.ops.statistics import Table

#: Most calls whose preparations are kept; beyond, all are made anew.
KEPT = 4096

#: What launches are given, as kernels name it: what a pass has of its own and is given, and each direction's.
_TABLES = """
saved_ptr scratch_ptr counter_ptr
used_mean_ptr used_var_ptr mean_logits_ptr var_logits_ptr mean_fixed_ptr var_fixed_ptr radius_ptr weight_ptr bias_ptr
"""
_NORMALIZING = (
    f"x_ptr y_ptr residual_ptr batch_ptr {_TABLES} moved_mean_ptr moved_var_ptr batches_ptr share rest".split()
)
_GRADIENTS = "dx_ptr dmean_logits_ptr dvar_logits_ptr dweight_ptr dbias_ptr dz_ptr"
_DIFFERENTIATING = f"dy_ptr x_ptr y_ptr {_GRADIENTS} {_TABLES}".split()


class _Forward(NamedTuple):
    """The forward pass of a call on tensors of certain shapes and dtypes: what it allocates, and its launches.

    Attributes:
        accumulated: dtype of all tables.
        saved: numbers that the backward pass needs.
        batch: channels, where the batch's mean and variance come back; else 0.
        scratch: numbers that the first launch leaves to the second; 0 where there is one launch.
        counters: how many the first launch needs.
        launches: one where programs hold all that depends on each other, or where nothing of x is needed before.
        backward: the backward pass, by whether y is not needed, and whether x is contiguous: hooks of saved tensors, as
            `torch.autograd.graph.save_on_cpu`, may give it back in another layout.
    """

    accumulated: torch.dtype
    saved: int
    batch: int
    scratch: int
    counters: int
    launches: Launches
    backward: dict[tuple[bool, bool], _Backward]


class _Backward(NamedTuple):
    """As `_Forward`."""

    scratch: int
    counters: int
    launches: Launches


class _Kept(dict[tuple[Any, ...], _Forward]):
    """What was prepared, by what it depends on."""

    cache_clear = dict.clear


_forwards: _Kept = derived_from_plans(_Kept())


def forward(
    call: Call,
    x: Tensor,
    tables: Tables,
    residual: Tensor | None,
    moved: Moved | None,
    keeps: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None, _Forward]:
    """Normalize, in one launch or two."""
    if x.is_cuda and is_elsewhere(x):
        with torch.cuda.device(x.device):
            return forward(call, x, tables, residual, moved, keeps)
    mean_logits, var_logits, final, weight, bias, used = tables
    mean_fixed, var_fixed, radius = final or (None, None, None)
    used_mean, used_var = used or (None, None)
    mean, var, counter, share = moved or (None, None, None, 0.0)
    given = (used_mean, used_var, mean_logits, var_logits, mean_fixed, var_fixed, radius, weight, bias)
    others = (residual, *given, mean, var, counter)
    # What launches depend on: the call, how x lies, and what the others are.
    key = [call, x.dtype, x.shape, x.is_contiguous(), x.get_device()]
    for t in others:
        if t is None:
            key.append(None)
        else:
            key += t.dtype, t.numel(), t.get_device()
    form = tuple(key)
    prepared = _forwards.get(form)
    if prepared is None:
        check_devices(x, *others)
        check_lengths("logits", len(call.statistics), mean_logits, var_logits)
        check_lengths("scale and shift", x.shape[1], weight, bias)
        check_lengths("running statistics", x.shape[1], used_mean, used_var, mean, var)
        if len(_forwards) >= KEPT:
            _forwards.clear()
        prepared = _forwards[form] = _prepare_forward(call, x, mean_logits, residual, used, moved is not None)
    accumulated, kept, pooled, slots, arrivals, launches, _ = prepared
    y = torch.empty_like(x)
    saved = x.new_empty(kept, dtype=accumulated)
    batch = x.new_empty((2, pooled), dtype=accumulated) if pooled else None
    own = (saved, x.new_empty(slots, dtype=accumulated) if slots else None, counters(x, arrivals) if arrivals else None)
    launches(x, y, residual, batch, *own, *given, mean, var, counter, numbers=_halves(share))
    return y, saved, batch, prepared


@functools.lru_cache(maxsize=64)
def _halves(share: float) -> tuple[float, float]:
    """Two numbers of 32 bits, as launches hand them over, whose sum is a share as nearly as that."""
    first = ctypes.c_float(share).value
    return first, share - first


def _prepare_forward(
    call: Call,
    x: Tensor,
    mean_logits: Tensor | None,
    residual: Tensor | None,
    used: Table | None,
    moving: bool,
) -> _Forward:
    cut, mix, told = _planned(call, x, mean_logits is not None, used)
    accumulated = accumulation_dtype(x.dtype)
    kept = mix.saved(cut.samples, cut.channels)
    pooled = cut.channels if mix.pools_batch and not moving else 0
    fixed = used is not None and call.statistics == ("batch",) and not mix.rule.MIXED
    # A map that is normalized by given numbers alone is not looked at before.
    block = None if fixed else mix.resident(cut, False, False, accumulated.itemsize)
    if block is not None:
        only = holding_all(resident_normalize_kernel, cut, mix, block, x.dtype, **told)
        return _Forward(accumulated, kept, pooled, 0, 0, Launches(only, names=_NORMALIZING), {})
    launches = []
    counted = mix.pools_batch and cut.groups > 1
    if not fixed:
        rule = mix.rule if mix.pools_batch else mix.rule._replace(BATCH=-1)
        launches += [over_plan(moments_kernel, cut, mix, x.dtype, **{**told, "RULE": rule, "COUNTED": counted})]
    slots = 2 * cut.samples * (cut.pieces * cut.channels + cut.tiles)
    arrivals = _counted(cut, counted)
    cut = cut.writing(1 if residual is None else 2)
    if residual is not None and cut.align == 1:
        # The places of single elements of both that are copied further ahead take more registers than there are.
        cut = replace(cut, stages=min(cut.stages, 2))
    launches += [over_plan(normalize_kernel, cut, mix, x.dtype, FIXED=fixed, **told)]
    return _Forward(accumulated, kept, pooled, slots, arrivals, Launches(*launches, names=_NORMALIZING), {})


def backward(
    call: Call,
    notes: _Forward,
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    saved: Tensor,
    tables: Tables,
    wanted: Sequence[bool] = ALL,
) -> PassGradients:
    """All gradients, in one launch or two."""
    if x.is_cuda and is_elsewhere(x):
        with torch.cuda.device(x.device):
            return backward(call, notes, dy, x, y, saved, tables, wanted)
    mean_logits, var_logits, final, weight, bias, used = tables
    given = (*(used or (None, None)), mean_logits, var_logits, *(final or (None, None, None)), weight, bias)
    # All else that was looked up in the forward pass is the same here.
    form = y is None, x.is_contiguous()
    prepared = notes.backward.get(form)
    if prepared is None:
        prepared = notes.backward[form] = _prepare_backward(call, x, y, mean_logits, weight, bias, used)
    slots, arrivals, launches = prepared
    dx = torch.empty_like(x)
    dz = None if y is None else torch.empty_like(x)
    of_mean = None if mean_logits is None else torch.empty_like(mean_logits)
    of_var = None if var_logits is None else torch.empty_like(var_logits)
    of_weight = None if weight is None else torch.empty_like(weight)
    of_bias = None if bias is None else torch.empty_like(bias)
    found = (dx, of_mean, of_var, of_weight, of_bias, dz)
    scratch = x.new_empty(slots, dtype=notes.accumulated) if slots else None
    launches(dy, x, y, *found, saved, scratch, counters(x, arrivals) if arrivals else None, *given)
    return found


def _prepare_backward(
    call: Call,
    x: Tensor,
    y: Tensor | None,
    mean_logits: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    used: Table | None,
) -> _Backward:
    cut, mix, told = _planned(call, x, mean_logits is not None, used)
    ties_samples = weight is not None or bias is not None
    block = mix.resident(cut, ties_samples, mix.rule.MIXED, accumulation_dtype(x.dtype).itemsize)
    if block is not None:
        only = holding_all(resident_gradient_kernel, cut, mix, block, x.dtype, **told)
        return _Backward(0, 0, Launches(only, names=_DIFFERENTIATING))
    cut = cut.reading(2 if y is None else 3)
    maps = cut.samples * cut.channels
    of_parts = cut.samples // mix.part * cut.channels
    of_tiles = (2 * cut.samples + 8 + 8 * cut.groups) * cut.tiles
    slots = 2 * maps * cut.pieces + 4 * maps + 2 * of_parts + of_tiles
    counted = cut.groups > 1
    first = over_plan(gradient_sums_kernel, cut, mix, x.dtype, COUNTED=counted, **told)
    second = over_plan(gradient_kernel, cut, mix, x.dtype, **{**told, "RELU": call.relu and y is None})
    if y is not None:
        second.takes[second.takes.index("dy_ptr")] = "dz_ptr"  # which the first one leaves
    return _Backward(slots, _counted(cut, counted), Launches(first, second, names=_DIFFERENTIATING))


def _counted(cut: Plan, pooled: bool) -> int:
    """How many counters a launch needs: of each group of samples and tile, and of each tile whose groups are pooled."""
    if pooled:
        return (cut.groups + 1) * cut.tiles
    return cut.groups * cut.tiles if cut.pieces > 1 else 0


def _planned(call: Call, x: Tensor, mixed: bool, used: Table | None) -> tuple[Plan, Mixture, dict[str, Any]]:
    """How x is cut, the rule, and what else kernels are told of a call."""
    given = call.projection == GIVEN
    rule = (call.statistics, used is not None, call.ghost, call.unbiased, given, mixed)
    mix = mixture(*x.shape[:2], x.dim() == 2, *rule)
    choice = Choice(len(call.statistics), mix.members, call.projection, call.tied)
    return plan(x), mix, {"CHOICE": choice, "EPS": call.eps, "RELU": call.relu}
