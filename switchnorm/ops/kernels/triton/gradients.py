"""The gradients of the mixed moments: how the last program of a tile derives them, and how maps get them back.

With y = (x - M) * scale + bias and scale = weight / sqrt(V + eps): dM = -scale * sum(dy), and
dV = -1/2 * scale / (V + eps) * sum(dy * (x - M)). A pooled statistic sends back the average of what its entries got,
its variance also along (mean - pooled mean): see `switchnorm.ops.rule.gradient`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.geometry import channels_of, unbias
from switchnorm.ops.kernels.triton.tables import (
    batch_table,
    group_table,
    layer_table,
    sum_group,
    sum_tiles,
    weight_at,
)


@triton.jit
def gradient_tables(scratch_ptr, N, C, P, BLOCK_C: tl.constexpr):
    """Where the scratch memory of the backward pass holds what its second launch reads.

    Gradients of mixed mean and variance (2, N, C); their sums over tiles (2, N, tiles); shares of the gradient of the
    importance (tiles, 8), those of the mean's first; sums over parts of the batch (2, N / PART, C).
    """
    tiles = tl.cdiv(C, BLOCK_C)
    maps_ptr = scratch_ptr + 2 * N * P * C.to(tl.int64)
    pooled_ptr = maps_ptr + 2 * N * C.to(tl.int64)
    shares_ptr = pooled_ptr + 2 * N * tiles
    return maps_ptr, pooled_ptr, shares_ptr, shares_ptr + 8 * tiles


@triton.jit
def share(shares, mean_grad, var_grad, apart, var, PLACE: tl.constexpr):
    """Add to the gradients of the importance of the statistic at PLACE."""
    slot = tl.arange(0, 8)
    shares += tl.where(slot == PLACE, tl.sum(tl.sum(mean_grad * apart, 1), 0), 0)
    return shares + tl.where(slot == PLACE + 4, tl.sum(tl.sum(var_grad * var, 1), 0), 0)


@triton.jit
def merged_sums(slots_ptr, n, c, inside, N, C, P, BLOCK_P: tl.constexpr):
    """Both sums of maps (BLOCK_N, BLOCK_C) from their slots."""
    row = C.to(tl.int64)
    piece = tl.arange(0, BLOCK_P)[None, :, None]
    at = slots_ptr + (n[:, None, None] * row * P + piece * row) + c[None, None, :]
    exists = inside[:, None, :] & (piece < P)
    total = tl.load(at, mask=exists, other=0)
    product = tl.load(at + N * row * P, mask=exists, other=0)
    return tl.sum(total, 1), tl.sum(product, 1)


@triton.jit
def mixed_gradients(total, product, offset, deviation, scale):
    """From the sums about the own mean: dy times normalized x, and the gradients of mixed mean and variance."""
    normalized = (product - offset * total) * deviation
    return normalized, -scale * total, -0.5 * normalized * (scale * deviation)


@triton.jit
def block_gradients(saved_ptr, slots_ptr, weight_ptr, n, c, inside, N, C, P, BLOCK_P: tl.constexpr, ACC: tl.constexpr):
    """sum(dy) of maps (BLOCK_N, BLOCK_C), and what `mixed_gradients` makes of both sums."""
    row = C.to(tl.int64)
    total, product = merged_sums(slots_ptr, n, c, inside, N, C, P, BLOCK_P)
    at = saved_ptr + n[:, None] * row + c[None, :]
    offset = tl.load(at + 2 * N * row, mask=inside, other=0)
    deviation = tl.load(at + 3 * N * row, mask=inside, other=0)
    scale = deviation
    if weight_ptr is not None:
        scale = deviation * tl.load(weight_ptr + c, mask=c < C, other=0).to(ACC)[None, :]
    normalized, mean_grad, var_grad = mixed_gradients(total, product, offset, deviation, scale)
    return total, normalized, mean_grad, var_grad


@triton.jit
def block_shares(
    shares,
    mean_grad,
    var_grad,
    saved_ptr,
    running_mean_ptr,
    running_var_ptr,
    n,
    c,
    inside,
    N,
    C,
    L,
    PART,
    WIDTH,
    INSTANCE: tl.constexpr,
    LAYER: tl.constexpr,
    BATCH: tl.constexpr,
    GROUP: tl.constexpr,
    UNBIASED: tl.constexpr,
    ACC: tl.constexpr,
):
    """Shares of the gradient of the importance, from maps (BLOCK_N, BLOCK_C).

    Means are taken relative to the map's own. That adds one number to the gradients of all weights, which makes no
    difference to weights that sum to 1, and keeps digits under a large common offset.
    """
    row = C.to(tl.int64)
    exists = (c < C)[None, :]
    mean = tl.load(saved_ptr + n[:, None] * row + c[None, :], mask=inside, other=0)
    if INSTANCE >= 0:
        var = tl.load(saved_ptr + (N + n[:, None]) * row + c[None, :], mask=inside, other=0)
        if UNBIASED:
            var = unbias(var, L, ACC)
        shares = share(shares, mean_grad, var_grad, tl.zeros_like(mean), var, INSTANCE)
    if LAYER >= 0:
        at = layer_table(saved_ptr, N, C) + n[:, None]
        of_layer = tl.load(at, mask=(n < N)[:, None], other=0)
        shares = share(
            shares, mean_grad, var_grad, tl.where(inside, of_layer - mean, 0),
            tl.load(at + N, mask=(n < N)[:, None], other=0), LAYER,
        )  # fmt: skip
    if BATCH >= 0:
        if running_mean_ptr is not None:
            batch_mean = tl.load(running_mean_ptr + c[None, :], mask=exists, other=0).to(ACC)
            batch_var = tl.load(running_var_ptr + c[None, :], mask=exists, other=0).to(ACC)
        else:
            at = batch_table(saved_ptr, N, C, WIDTH, LAYER, GROUP) + n[:, None] // PART * row + c[None, :]
            batch_mean = tl.load(at, mask=inside, other=0)
            batch_var = tl.load(at + N // PART * row, mask=inside, other=0)
        shares = share(shares, mean_grad, var_grad, tl.where(inside, batch_mean - mean, 0), batch_var, BATCH)
    if GROUP >= 0:
        groups = C // WIDTH
        at = group_table(saved_ptr, N, C, LAYER) + n[:, None] * groups + c[None, :] // WIDTH
        group_mean = tl.load(at, mask=inside, other=0)
        group_var = tl.load(at + N * groups, mask=inside, other=0)
        shares = share(shares, mean_grad, var_grad, tl.where(inside, group_mean - mean, 0), group_var, GROUP)
    return shares


@triton.jit
def finish_gradients(
    saved_ptr,
    scratch_ptr,
    running_mean_ptr,
    running_var_ptr,
    weight_ptr,
    dweight_ptr,
    dbias_ptr,
    tile,
    N,
    C,
    L,
    P,
    PART,
    WIDTH,
    INSTANCE: tl.constexpr,
    LAYER: tl.constexpr,
    BATCH: tl.constexpr,
    GROUP: tl.constexpr,
    MIXED: tl.constexpr,
    UNBIASED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
):
    """Merge the slots of a tile; part by part of the batch, or all samples as one part without batch statistics."""
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    maps_ptr, pooled_ptr, shares_ptr, parts_ptr = gradient_tables(scratch_ptr, N, C, P, BLOCK_C)
    of_weight = tl.zeros((BLOCK_C,), ACC)
    of_bias = tl.zeros((BLOCK_C,), ACC)
    shares = tl.zeros((8,), ACC)
    parts = 0
    step = N
    if BATCH >= 0 and running_mean_ptr is None:
        step = PART
    for start in range(0, N, step):
        part_mean = tl.zeros((BLOCK_C,), ACC)
        part_var = tl.zeros((BLOCK_C,), ACC)
        for n0 in range(start, start + step, BLOCK_N):
            n = n0 + tl.arange(0, BLOCK_N)
            inside = (n < start + step)[:, None] & (c < C)[None, :]
            total, normalized, mean_grad, var_grad = block_gradients(
                saved_ptr, scratch_ptr, weight_ptr, n, c, inside, N, C, P, BLOCK_P, ACC
            )
            of_weight += tl.sum(normalized, 0)
            of_bias += tl.sum(total, 0)
            part_mean += tl.sum(mean_grad, 0)
            part_var += tl.sum(var_grad, 0)
            at = maps_ptr + n[:, None] * row + c[None, :]
            tl.store(at, mean_grad, mask=inside)
            tl.store(at + N * row, var_grad, mask=inside)
            at = pooled_ptr + n * tl.cdiv(C, BLOCK_C) + tile
            tl.store(at, tl.sum(mean_grad, 1), mask=n < start + step)
            tl.store(at + N * tl.cdiv(C, BLOCK_C), tl.sum(var_grad, 1), mask=n < start + step)
            if MIXED:
                shares = block_shares(
                    shares, mean_grad, var_grad, saved_ptr, running_mean_ptr, running_var_ptr, n, c, inside, N, C, L,
                    PART, WIDTH, INSTANCE, LAYER, BATCH, GROUP, UNBIASED, ACC,
                )  # fmt: skip
        if BATCH >= 0 and running_mean_ptr is None:
            at = parts_ptr + parts * row + c
            parts += 1
            tl.store(at, part_mean, mask=c < C)
            tl.store(at + N // PART * row, part_var, mask=c < C)
    tl.store(shares_ptr + tile * 8 + tl.arange(0, 8), shares)
    if dweight_ptr is not None:
        tl.store(dweight_ptr + c, of_weight, mask=c < C)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + c, of_bias, mask=c < C)


@triton.jit
def moment_gradients(
    saved_ptr,
    scratch_ptr,
    running_mean_ptr,
    mean_importance_ptr,
    var_importance_ptr,
    mean,
    n,
    tile,
    N,
    C,
    L,
    P,
    PART,
    WIDTH,
    INSTANCE: tl.constexpr,
    LAYER: tl.constexpr,
    BATCH: tl.constexpr,
    GROUP: tl.constexpr,
    UNBIASED: tl.constexpr,
    FLAT: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradients of the maps' own mean and population variance, for one sample's tile."""
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    tiles = tl.cdiv(C, BLOCK_C)
    maps_ptr, pooled_ptr, _, parts_ptr = gradient_tables(scratch_ptr, N, C, P, BLOCK_C)
    of_mean = tl.zeros_like(mean)
    of_var = tl.zeros_like(mean)
    if INSTANCE >= 0:
        at = maps_ptr + n * row + c
        of_mean += weight_at(mean_importance_ptr, INSTANCE, ACC) * tl.load(at, mask=c < C, other=0)
        of_var += weight_at(var_importance_ptr, INSTANCE, ACC) * tl.load(at + N * row, mask=c < C, other=0)
    if LAYER >= 0:
        from_mean, from_var = sum_tiles(pooled_ptr, n, 0, tiles, N, C, BLOCK_C, BLOCK_T)
        from_var *= weight_at(var_importance_ptr, LAYER, ACC)
        centre = tl.load(layer_table(saved_ptr, N, C) + n)
        of_mean += weight_at(mean_importance_ptr, LAYER, ACC) * from_mean / C.to(ACC)
        back = pooled_var_gradient(from_var, C, FLAT and UNBIASED, ACC)
        of_mean += 2 * (mean - centre) * back
        of_var += back
    if BATCH >= 0 and running_mean_ptr is None:
        at = parts_ptr + n // PART * row + c
        from_mean = tl.load(at, mask=c < C, other=0)
        from_var = tl.load(at + N // PART * row, mask=c < C, other=0) * weight_at(var_importance_ptr, BATCH, ACC)
        at = batch_table(saved_ptr, N, C, WIDTH, LAYER, GROUP) + n // PART * row + c
        centre = tl.load(at, mask=c < C, other=0)
        of_mean += weight_at(mean_importance_ptr, BATCH, ACC) * from_mean / PART.to(ACC)
        back = pooled_var_gradient(from_var, PART, FLAT and UNBIASED, ACC)
        of_mean += 2 * (mean - centre) * back
        of_var += back
    if GROUP >= 0:
        if BLOCK_W == 0:
            count = WIDTH // BLOCK_C
            from_mean, from_var = sum_tiles(pooled_ptr, n, tile // count * count, count, N, C, BLOCK_C, BLOCK_T)
        else:
            from_mean, from_var = sum_group(maps_ptr, n, c, N, C, WIDTH, BLOCK_C, BLOCK_W, ACC)
        from_var *= weight_at(var_importance_ptr, GROUP, ACC)
        at = group_table(saved_ptr, N, C, LAYER) + n * (C // WIDTH) + c // WIDTH
        centre = tl.load(at, mask=c < C, other=0)
        of_mean += weight_at(mean_importance_ptr, GROUP, ACC) * from_mean / WIDTH.to(ACC)
        back = pooled_var_gradient(from_var, WIDTH, FLAT and UNBIASED, ACC)
        of_mean += 2 * (mean - centre) * back
        of_var += back
    if UNBIASED:
        of_var = unbias(of_var, L, ACC)
    return of_mean, of_var


@triton.jit
def pooled_var_gradient(total, count, UNBIAS: tl.constexpr, ACC: tl.constexpr):
    """What each of `count` entries gets of the gradients of their pooled variance."""
    back = total / count.to(ACC)
    if UNBIAS:
        back = unbias(back, count, ACC)
    return back


@triton.jit
def write_importance_gradients(
    shares_ptr,
    dmean_importance_ptr,
    dvar_importance_ptr,
    K: tl.constexpr,
    tiles,
    BLOCK_T: tl.constexpr,
):
    """Sum the tiles' shares."""
    slot = tl.arange(0, 8)[None, :]
    tile = tl.arange(0, BLOCK_T)[:, None]
    shares = tl.sum(tl.load(shares_ptr + tile * 8 + slot, mask=tile < tiles, other=0), 0)
    slot = tl.arange(0, 8)
    tl.store(dmean_importance_ptr + slot, shares, mask=slot < K)
    tl.store(dvar_importance_ptr + slot - 4, shares, mask=(slot >= 4) & (slot < 4 + K))
