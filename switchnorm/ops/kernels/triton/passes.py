"""The four passes over maps by themselves, for rules that the fused kernels do not cover; one launch each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchnorm.ops.kernels.triton.affine import affine_kernel
from switchnorm.ops.kernels.triton.combine import combine_kernel
from switchnorm.ops.kernels.triton.launch import counters, launch
from switchnorm.ops.kernels.triton.moments import moments_kernel
from switchnorm.ops.kernels.triton.plan import WARPS, Plan, plan
from switchnorm.ops.kernels.triton.sums import sums_kernel
from switchnorm.ops.moments import accumulation_dtype


def tables(x: Tensor, count: int) -> Tensor:
    """Uninitialised numbers of the type in which x's statistics are kept."""
    return x.new_empty(count, dtype=accumulation_dtype(x.dtype))


def geometry(cut: Plan) -> tuple[int, ...]:
    """The arguments N, C, L, P, STEPS and SAMPLES of a kernel."""
    return cut.samples, cut.channels, cut.size, cut.pieces, cut.steps, cut.own


def blocks(cut: Plan) -> dict[str, Any]:
    """The constants of a kernel that describe its blocks."""
    return {"CHANNELS_LAST": cut.channels_last, "ALIGN": cut.align, "BLOCK_C": cut.block_c, "BLOCK_L": cut.block_l}


def merging(cut: Plan, samples: int) -> dict[str, Any]:
    """The constants of a kernel whose last program merges slots; `samples` share a statistic."""
    return {"BLOCK_N": cut.block_n(samples), "BLOCK_P": cut.block_p}


def moments(x: Tensor) -> Tensor:
    """Mean and population variance of each map, (2, N, C)."""
    cut = plan(x)
    table = tables(x, 2 * cut.samples * cut.channels).view(2, *x.shape[:2])
    launch(
        moments_kernel,
        (cut.programs,),
        x,
        x,
        table,
        tables(x, 2 * cut.samples * cut.pieces * cut.channels),
        None,
        counters(x) if cut.pieces > 1 else None,
        *geometry(cut),
        cut.samples,
        cut.channels,
        warps=WARPS,
        POOLED=False,
        LAYER=-1,
        BATCH=-1,
        GROUP=-1,
        UNBIASED=False,
        FLAT=False,
        COUNTED=cut.pieces > 1,
        **blocks(cut),
        **merging(cut, cut.own),
    )
    return table


def affine(x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """(x - centre) * scale + shift."""
    cut = plan(x)
    y = torch.empty_like(x)
    centre, scale = centre.contiguous(), scale.contiguous()
    shift = None if shift is None else shift.contiguous()
    launch(affine_kernel, (cut.programs,), x, x, y, centre, scale, shift, *geometry(cut), warps=WARPS, **blocks(cut))
    return y


def sums(dy: Tensor, x: Tensor, centre: Tensor) -> Tensor:
    """The sums over each map of dy and of dy * (x - centre), (2, N, C)."""
    cut = plan(x)
    table = tables(x, 2 * cut.samples * cut.channels).view(2, *x.shape[:2])
    launch(
        sums_kernel,
        (cut.programs,),
        x,
        dy,
        x,
        centre.contiguous(),
        table,
        tables(x, 2 * cut.samples * cut.pieces * cut.channels),
        counters(x) if cut.pieces > 1 else None,
        *geometry(cut),
        warps=WARPS,
        COUNTED=cut.pieces > 1,
        **blocks(cut),
        **merging(cut, cut.own),
    )
    return table


def combine(dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """dy * a + (x - centre) * b + c."""
    cut = plan(x)
    dx = torch.empty_like(x)
    a, centre, b, c = (table.contiguous() for table in (a, centre, b, c))
    launch(
        combine_kernel,
        (cut.programs,),
        x,
        dy,
        a,
        x,
        centre,
        b,
        c,
        dx,
        *geometry(cut),
        warps=WARPS,
        **blocks(cut),
    )
    return dx
