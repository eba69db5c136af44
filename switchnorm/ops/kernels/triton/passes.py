"""The four passes over maps by themselves, for rules that the fused kernels do not cover; one launch each."""

from __future__ import annotations

import torch
from torch import Tensor

from switchnorm.ops.kernels.triton.affine import affine_kernel
from switchnorm.ops.kernels.triton.bundles import Blocks, Choice, Merge, Rule
from switchnorm.ops.kernels.triton.combine import combine_kernel
from switchnorm.ops.kernels.triton.cut import MERGED, Plan, power_above
from switchnorm.ops.kernels.triton.launch import counters, launch
from switchnorm.ops.kernels.triton.mixture import HEAD
from switchnorm.ops.kernels.triton.moments import moments_kernel
from switchnorm.ops.kernels.triton.plan import plan
from switchnorm.ops.kernels.triton.sums import sums_kernel
from switchnorm.ops.moments import accumulation_dtype


def tables(x: Tensor, count: int) -> Tensor:
    """Uninitialised numbers of the type in which x's statistics are kept."""
    return x.new_empty(count, dtype=accumulation_dtype(x.dtype))


def geometry(cut: Plan) -> tuple[int, ...]:
    """The arguments N, C, L, P, PIECE and SAMPLES of a kernel."""
    return cut.samples, cut.channels, cut.size, cut.pieces, cut.piece, cut.own


def blocks(cut: Plan) -> Blocks:
    """The blocks of a kernel."""
    return Blocks(cut.block_n, cut.block_c, cut.block_l, cut.channels_last, cut.align, cut.whole, cut.stages)


def merging(cut: Plan, samples: int = 1) -> Merge:
    """How a kernel sums over maps and merges pieces of them, and `samples` that share a statistic."""
    # Of whole maps nothing accumulates.
    folds = min(cut.block_l, 32) if cut.channels_last else max(cut.block_l // 8, 1)
    fold = cut.block_l if cut.whole else folds
    return Merge(fold, cut.merge_n(cut.own), min(power_above(samples), max(1, MERGED // cut.block_c)), cut.block_p)


def moments(x: Tensor) -> Tensor:
    """Mean and population variance of each map, (2, N, C)."""
    cut = plan(x)
    saved = tables(x, HEAD + 2 * cut.samples * cut.channels)
    launch(
        moments_kernel,
        (cut.programs,),
        x,
        x,
        saved,
        slots(x, cut),
        None,
        counters(x, cut.tiles * cut.samples) if cut.pieces > 1 else None,
        *(None,) * 8,
        0.0,
        0.0,
        *geometry(cut),
        cut.samples,
        cut.channels,
        warps=cut.warps,
        registers=cut.registers,
        CHOICE=Choice(),
        RULE=Rule(),
        POOLED=False,
        COUNTED=False,
        BLOCK=blocks(cut),
        MERGE=merging(cut),
    )
    return saved[HEAD:].view(2, *x.shape[:2])


def slots(x: Tensor, cut: Plan) -> Tensor | None:
    """Two numbers for each piece of a map; None where maps are whole."""
    return tables(x, 2 * cut.samples * cut.pieces * cut.channels) if cut.pieces > 1 else None


def affine(x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """(x - centre) * scale + shift."""
    cut = plan(x)
    y = torch.empty_like(x)
    centre, scale = centre.contiguous(), scale.contiguous()
    shift = None if shift is None else shift.contiguous()
    launch(
        affine_kernel,
        (cut.programs,),
        x,
        x,
        y,
        centre,
        scale,
        shift,
        *geometry(cut),
        warps=cut.warps,
        registers=cut.registers,
        BLOCK=blocks(cut),
    )
    return y


def sums(dy: Tensor, x: Tensor, centre: Tensor) -> Tensor:
    """The sums over each map of dy and of dy * (x - centre), (2, N, C)."""
    cut = plan(x).reading(2)
    table = tables(x, 2 * cut.samples * cut.channels).view(2, *x.shape[:2])
    launch(
        sums_kernel,
        (cut.programs,),
        x,
        dy,
        x,
        centre.contiguous(),
        table,
        slots(x, cut),
        counters(x, cut.tiles * cut.samples) if cut.pieces > 1 else None,
        *geometry(cut),
        warps=cut.warps,
        registers=cut.registers,
        BLOCK=blocks(cut),
        MERGE=merging(cut),
    )
    return table


def combine(dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """dy * a + (x - centre) * b + c."""
    cut = plan(x).reading(2)
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
        warps=cut.warps,
        registers=cut.registers,
        BLOCK=blocks(cut),
    )
    return dx
