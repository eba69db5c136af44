"""Both directions with the rule inside: one launch where programs can hold what they need, else two.

All that depends on shapes, dtypes and the call is made once and kept: see `_Forward`.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops.kernels.base import Final, PassGradients, check_devices
from switchnorm.ops.kernels.triton.affine import normalize_kernel
from switchnorm.ops.kernels.triton.bundles import Blocks, Choice
from switchnorm.ops.kernels.triton.combine import gradient_kernel
from switchnorm.ops.kernels.triton.cut import WARPS, Plan
from switchnorm.ops.kernels.triton.launch import Launch, counters, is_elsewhere
from switchnorm.ops.kernels.triton.mixture import Mixture, mixture
from switchnorm.ops.kernels.triton.moments import moments_kernel
from switchnorm.ops.kernels.triton.passes import blocks, geometry, merging
from switchnorm.ops.kernels.triton.plan import derived_from_plans, plan
from switchnorm.ops.kernels.triton.resident import resident_gradient_kernel, resident_normalize_kernel
from switchnorm.ops.kernels.triton.sums import gradient_sums_kernel
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.ops.projection import GIVEN, Call, Moved
from switchnorm.ops.statistics import Table

#: Most calls whose preparations are kept; beyond, all are made anew.
KEPT = 4096


class _Forward(NamedTuple):
    """The forward pass of a call on tensors of certain shapes and dtypes: what it allocates, and its launches.

    Attributes:
        accumulated: dtype of all tables.
        saved: numbers that the backward pass needs.
        batch: channels, where the batch's mean and variance come back; else 0.
        scratch: numbers that the first launch leaves to the second.
        counters: how many the first launch needs.
        first, second: the launches; no second one where programs hold all that depends on each other, no first one
            where nothing of x is needed before it.
        backward: the backward pass, by whether y is not needed, and whether x is contiguous: hooks of saved tensors, as
            `torch.autograd.graph.save_on_cpu`, may give it back in another layout.
    """

    accumulated: torch.dtype
    saved: int
    batch: int
    scratch: int
    counters: int
    first: Launch | None
    second: Launch | None
    backward: dict[tuple[bool, bool], _Backward]


class _Backward(NamedTuple):
    """As `_Forward`."""

    scratch: int
    counters: int
    first: Launch
    second: Launch | None


class _Kept(dict[tuple[Any, ...], _Forward]):
    """What was prepared, by what it depends on."""

    cache_clear = dict.clear


_forwards: _Kept = derived_from_plans(_Kept())


def forward(
    call: Call,
    x: Tensor,
    mean_logits: Tensor | None,
    var_logits: Tensor | None,
    final: Final | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    used: Table | None,
    moved: Moved | None,
) -> tuple[Tensor, Tensor, Tensor | None, _Forward]:
    """Normalize, in one launch or two."""
    if is_elsewhere(x):
        with torch.cuda.device(x.device):
            return forward(call, x, mean_logits, var_logits, final, weight, bias, residual, used, moved)
    logits = (mean_logits, var_logits, *(final or (None, None, None)))
    used_mean, used_var = used or (None, None)
    *moving, share = moved or (None, None, None, 0.0)
    others = (*logits, weight, bias, residual, used_mean, used_var, *moving)
    # What launches depend on: the call, where x lies and how, and what the others are; and that all lies there.
    forms = tuple([None if t is None else (t.dtype, t.shape) for t in others])
    device = x.get_device()
    apart = [t for t in others if t is not None and t.get_device() != device]
    key = (call, share, x.device, x.dtype, x.shape, x.is_contiguous(), forms)
    prepared = None if apart else _forwards.get(key)
    if prepared is None:
        check_devices(x, *others)
        _check_lengths(len(call.statistics), mean_logits, var_logits)
        _check_lengths(x.shape[1], weight, bias, used_mean, used_var, *moving[:2])
        if len(_forwards) >= KEPT:
            _forwards.clear()
        prepared = _forwards[key] = _prepare_forward(call, x, mean_logits, residual, used, moved)
    accumulated, kept, pooled, slots, arrivals, first, second, _ = prepared
    y = torch.empty_like(x)
    saved = x.new_empty(kept, dtype=accumulated)
    batch = x.new_empty((2, pooled), dtype=accumulated) if pooled else None
    if second is None:
        assert first is not None
        first(x, y, residual, saved, batch, used_mean, used_var, *logits, weight, bias, *moving)
        return y, saved, batch, prepared
    scratch = x.new_empty(slots, dtype=accumulated)
    if first is not None:
        first(x, saved, scratch, batch, counters(x, arrivals) if arrivals else None, *logits, *moving)
    second(x, y, residual, saved, scratch, used_mean, used_var, weight, bias)
    return y, saved, batch, prepared


def _check_lengths(length: int, *tables: Tensor | None) -> None:
    """Raise `InputError` for a table that is shorter or longer than the kernels, who cannot see it, take it to be."""
    for t in tables:
        if t is not None and t.shape != (length,):
            raise InputError(f"a normalization of this input takes tables of {length} numbers, got {tuple(t.shape)}")


def _prepare_forward(
    call: Call,
    x: Tensor,
    mean_logits: Tensor | None,
    residual: Tensor | None,
    used: Table | None,
    moved: Moved | None,
) -> _Forward:
    cut, mix = _planned(call, x, used)
    accumulated = accumulation_dtype(x.dtype)
    kept = mix.saved(cut.samples, cut.channels)
    pooled = cut.channels if mix.pools_batch and moved is None else 0
    # What a launch hands over as 32 bits, and what that leaves.
    share = 0.0 if moved is None else ctypes.c_float(moved.share).value
    momentum = (share, 0.0 if moved is None else moved.share - share)
    mixed = mean_logits is not None
    rule = mix.rule(mixed)
    choice = _choice(call, mix)
    fixed = used is not None and call.statistics == ("batch",) and not mixed
    # A map that is normalized by given numbers alone is not looked at before.
    block = None if fixed else mix.resident(cut, False, False, accumulated.itemsize)
    if block is not None:
        only = Launch(
            resident_normalize_kernel,
            _grid(cut, block),
            x.dtype,
            (*momentum, cut.samples, cut.channels, cut.size),
            warps=_warps(block),
            CHOICE=choice,
            RULE=rule,
            EPS=call.eps,
            RELU=call.relu,
            BLOCK=_resident(cut, block),
            POOL=mix.held(),
        )
        return _Forward(accumulated, kept, pooled, 0, 0, only, None, {})
    slots = 2 * cut.samples * (cut.pieces * cut.channels + cut.tiles)
    counted = mix.pools_batch and cut.groups > 1
    first = _over_plan(
        moments_kernel,
        cut,
        mix,
        x,
        *momentum,
        CHOICE=choice,
        RULE=rule if mix.pools_batch else rule._replace(BATCH=-1),
        POOLED=mix.pooled(cut),
        COUNTED=counted,
        MERGE=merging(cut, mix.part),
    )
    cut = cut.reading(1 if residual is None else 2)
    if residual is not None and cut.align == 1:
        # The places of single elements of both that are copied further ahead take more registers than there are.
        cut = replace(cut, stages=min(cut.stages, 2))
    second = _over_plan(
        normalize_kernel,
        cut,
        mix,
        x,
        RULE=rule,
        FIXED=fixed,
        EPS=call.eps,
        RELU=call.relu,
        POOL=mix.pool(cut),
    )
    before = None if fixed else first
    return _Forward(accumulated, kept, pooled, slots, _counted(cut, counted), before, second, {})


def backward(
    call: Call,
    notes: _Forward,
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    saved: Tensor,
    mean_logits: Tensor | None,
    var_logits: Tensor | None,
    final: Final | None,
    weight: Tensor | None,
    bias: Tensor | None,
    used: Table | None,
) -> PassGradients:
    """All gradients, in one launch or two."""
    if is_elsewhere(x):
        with torch.cuda.device(x.device):
            return backward(call, notes, dy, x, y, saved, mean_logits, var_logits, final, weight, bias, used)
    logits = (mean_logits, var_logits, *(final or (None, None, None)))
    used_mean, used_var = used or (None, None)
    # All else that was looked up in the forward pass is the same here.
    form = y is None, x.is_contiguous()
    prepared = notes.backward.get(form)
    if prepared is None:
        prepared = notes.backward[form] = _prepare_backward(call, x, y, mean_logits, weight, bias, used)
    slots, arrivals, first, second = prepared
    dx = torch.empty_like(x)
    dz = None if y is None else torch.empty_like(x)
    of_mean = None if mean_logits is None else torch.empty_like(mean_logits)
    of_var = None if var_logits is None else torch.empty_like(var_logits)
    of_weight = None if weight is None else torch.empty_like(weight)
    of_bias = None if bias is None else torch.empty_like(bias)
    found = (dx, of_mean, of_var, of_weight, of_bias, dz)
    if second is None:
        parameters = (*logits, weight, bias, of_mean, of_var, of_weight, of_bias)
        first(dy, x, y, dx, dz, saved, used_mean, used_var, *parameters)
        return found
    scratch = x.new_empty(slots, dtype=notes.accumulated)
    counted = counters(x, arrivals) if arrivals else None
    first(dy, x, y, dz, saved, scratch, counted, used_mean, used_var, weight, bias, of_weight, of_bias)
    second(dy if dz is None else dz, x, dx, saved, scratch, used_mean, *logits, weight, bias, of_mean, of_var)
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
    cut, mix = _planned(call, x, used)
    accumulated = accumulation_dtype(x.dtype)
    mixed = mean_logits is not None
    rule = mix.rule(mixed)
    choice = _choice(call, mix)
    block = mix.resident(cut, weight is not None or bias is not None, mixed, accumulated.itemsize)
    if block is not None:
        only = Launch(
            resident_gradient_kernel,
            _grid(cut, block),
            x.dtype,
            (cut.samples, cut.channels, cut.size),
            warps=_warps(block),
            CHOICE=choice,
            RULE=rule,
            RELU=call.relu,
            BLOCK=_resident(cut, block),
            POOL=mix.held(),
        )
        return _Backward(0, 0, only, None)
    cut = cut.reading(2 if y is None else 3)
    maps = cut.samples * cut.channels
    of_parts = cut.samples // mix.part * cut.channels
    of_tiles = (2 * cut.samples + 8 + 8 * cut.groups) * cut.tiles
    slots = 2 * maps * cut.pieces + 4 * maps + 2 * of_parts + of_tiles
    first = _over_plan(
        gradient_sums_kernel,
        cut,
        mix,
        x,
        RULE=rule,
        POOLED=mix.pooled(cut),
        COUNTED=cut.groups > 1,
        RELU=call.relu,
        MERGE=merging(cut, mix.part),
    )
    second = _over_plan(
        gradient_kernel,
        cut,
        mix,
        x,
        CHOICE=choice,
        RULE=rule,
        RELU=call.relu and y is None,
        POOL=mix.pool(cut),
    )
    return _Backward(slots, _counted(cut, cut.groups > 1), first, second)


def _over_plan(kernel: Any, cut: Plan, mix: Mixture, x: Tensor, *numbers: float, **constants: Any) -> Launch:
    """A launch over all that a plan cuts x into; its own numbers come before those of the plan."""
    return Launch(
        kernel,
        cut.programs,
        x.dtype,
        (*numbers, *geometry(cut), mix.part, mix.width),
        warps=cut.warps,
        registers=cut.registers,
        BLOCK=blocks(cut),
        **constants,
    )


def _counted(cut: Plan, pooled: bool) -> int:
    """How many counters a launch needs: of each group of samples and tile, and of each tile whose groups are pooled."""
    if pooled:
        return (cut.groups + 1) * cut.tiles
    return cut.groups * cut.tiles if cut.pieces > 1 else 0


def _planned(call: Call, x: Tensor, used: Table | None) -> tuple[Plan, Mixture]:
    given = call.projection == GIVEN
    rule = (call.statistics, used is not None, call.ghost, call.unbiased, given)
    return plan(x), mixture(*x.shape[:2], x.dim() == 2, *rule)


def _choice(call: Call, mix: Mixture) -> Choice:
    return Choice(len(call.statistics), mix.members, call.projection, call.tied)


def _grid(cut: Plan, block: tuple[int, int, int]) -> int:
    return -(-cut.channels // block[1]) * -(-cut.samples // block[0])


def _resident(cut: Plan, block: tuple[int, int, int]) -> Blocks:
    return Blocks(*block, cut.channels_last, cut.align)


def _warps(block: tuple[int, int, int]) -> int:
    """At least 8 elements a thread."""
    return max(1, min(WARPS, math.prod(block) // 256))
