"""The first launch of the backward pass: sums of dy and dy * (x - mean) over every map, and what follows from them.

What follows is merged in two steps, as in the forward pass: by the last of the programs that have pieces of the same
maps, and by the last of those of a tile of channels, which has all samples of its channels in hand, hence writes the
gradients of weight and bias, and the tile's share of those of the importance.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.affine import scale_and_shift, scale_of, scaled
from switchnorm.ops.kernels.triton.bundles import Gradients, Used
from switchnorm.ops.kernels.triton.geometry import (
    block_at,
    block_offsets,
    folded,
    last_of_maps,
    last_of_tile,
    maps_at,
    own_elements,
    own_piece,
    own_vectors,
    own_work,
    sizes,
    zeros,
)
from switchnorm.ops.kernels.triton.rule import importance_shares, mixed_gradients
from switchnorm.ops.kernels.triton.tables import load_slots, load_two, maps_table, store_slots, store_two

#: Shares of the gradient of the importance that are summed at once.
SHARES = tl.constexpr(64)


@triton.jit
def masked_gradient(dy, x, y_ptr, at, mask, centre, scale, shift, RELU):
    """dy where ReLU let y pass: by y itself where a residual went into it, else by what the forward pass computed."""
    if RELU:
        if y_ptr is not None:
            passes = tl.load(y_ptr + at, mask=mask, other=0) > 0
        else:
            passes = scaled(x, centre, scale, shift) > 0
        dy = tl.where(passes, dy, 0)
    return dy


@triton.jit
def piece_sums(dy_ptr, x_ptr, y_ptr, dz_ptr, centre, scale, shift, maps, piece, size, RELU, BLOCK, MERGE, ACC):
    """The sums over a piece of maps; dz, the gradient behind ReLU, is written where it has a place."""
    offsets = block_offsets(size, BLOCK)
    total = zeros(BLOCK.N, BLOCK.C, MERGE.FOLD, ACC)
    product = zeros(BLOCK.N, BLOCK.C, MERGE.FOLD, ACC)
    begin, end, steps = own_piece(piece, size, BLOCK)
    for i in tl.range(0, steps, num_stages=BLOCK.STAGES):
        l0 = begin + i * BLOCK.L
        start, mask = block_at(maps, l0, end, size, BLOCK)
        at = start + offsets
        dy = tl.load(dy_ptr + at, mask=mask, other=0).to(ACC)
        x = tl.load(x_ptr + at, mask=mask, other=0).to(ACC)
        dy = masked_gradient(dy, x, y_ptr, at, mask, centre[:, :, None], scale[:, :, None], shift[:, :, None], RELU)
        if dz_ptr is not None:
            # Only with y, which says all about ReLU, no matter of which map.
            tl.store(dz_ptr + at, dy, mask=own_vectors(mask, l0, maps, size, BLOCK))
        inside = own_elements(mask, l0, maps, size, BLOCK)
        if BLOCK.SHIFTED:
            dy = tl.where(inside, dy, 0)
        total += folded(dy, MERGE.FOLD, BLOCK)
        product += folded(tl.where(inside, dy * (x - centre[:, :, None]), 0), MERGE.FOLD, BLOCK)
    return tl.sum(total, 2), tl.sum(product, 2)


@triton.jit
def merged_sums(slots_ptr, maps, size, MERGE):
    """Both sums of maps from their slots."""
    total, product, _, _ = load_slots(slots_ptr, maps, size, MERGE)
    return tl.sum(total, 1), tl.sum(product, 1)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "PIECE", "SAMPLES"])
def sums_kernel(
    dy_ptr, x_ptr, centre_ptr, slots_ptr,
    N, C, L, P, PIECE, SAMPLES,
    BLOCK: tl.constexpr, MERGE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Slots (2, N, P, C) of the sums of dy and of dy * (x - centre) over pieces of maps, centre (N, C)."""
    size = sizes(N, C, L, P, PIECE, SAMPLES, N, C, BLOCK)
    work = own_work(size, False)
    for n0 in tl.range(work.first, work.last, BLOCK.N, num_stages=BLOCK.STAGES if BLOCK.WHOLE else 1):
        maps = maps_at(n0, work.last, work.tile, size, BLOCK.N, BLOCK)
        centre = tl.load(centre_ptr + maps.place, mask=maps.inside, other=0)
        total, product = piece_sums(
            dy_ptr, x_ptr, None, None, centre, centre, centre, maps, work.piece, size, False, BLOCK, MERGE, ACC
        )
        store_slots(slots_ptr, maps, work.piece, size, total, product)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "PIECE", "SAMPLES", "PART", "WIDTH"])
def gradient_sums_kernel(
    dy_ptr, x_ptr, y_ptr, dz_ptr, saved_ptr, scratch_ptr, counter_ptr,
    used_mean_ptr, used_var_ptr, weight_ptr, bias_ptr, dweight_ptr, dbias_ptr,
    N, C, L, P, PIECE, SAMPLES, PART, WIDTH,
    RULE: tl.constexpr, POOLED: tl.constexpr, COUNTED: tl.constexpr, RELU: tl.constexpr,
    BLOCK: tl.constexpr, MERGE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of the mixed moments, pooled as the rule needs them, and of weight and bias.

    scratch: slots (2, N, P, C), then `Gradients`.
    """
    size = sizes(N, C, L, P, PIECE, SAMPLES, PART, WIDTH, BLOCK)
    work = own_work(size, False)
    used = Used(used_mean_ptr, used_var_ptr)
    plane = size.N * size.ROW
    for n0 in tl.range(work.first, work.last, BLOCK.N, num_stages=BLOCK.STAGES if BLOCK.WHOLE else 1):
        maps = maps_at(n0, work.last, work.tile, size, BLOCK.N, BLOCK)
        at = maps_table(saved_ptr) + maps.place
        centre = tl.load(at, mask=maps.inside, other=0)
        scale, shift = centre, centre
        if RELU and y_ptr is None:
            offset, deviation = load_two(at + 2 * plane, plane, maps.inside)
            scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, maps, size)
        total, product = piece_sums(
            dy_ptr, x_ptr, y_ptr, dz_ptr, centre, scale, shift, maps, work.piece, size, RELU, BLOCK, MERGE, ACC
        )
        store_slots(scratch_ptr, maps, work.piece, size, total, product)
    if last_of_maps(counter_ptr, work, size, MERGE):
        finish_maps(saved_ptr, scratch_ptr, used, weight_ptr, work, size, RULE, POOLED, BLOCK, MERGE, ACC)
        if last_of_tile(counter_ptr, work, size, MERGE, COUNTED):
            sum_samples(scratch_ptr, used, dweight_ptr, dbias_ptr, work.tile, size, RULE, BLOCK, MERGE, ACC)


@triton.jit
def gradient_tables(scratch_ptr, size):
    """The tables after the slots."""
    maps_ptr = scratch_ptr + 2 * size.N * size.P * size.ROW
    parts_ptr = maps_ptr + 4 * size.N * size.ROW
    tiles_ptr = parts_ptr + 2 * (size.N // size.PART) * size.ROW
    return Gradients(maps_ptr, parts_ptr, tiles_ptr, tiles_ptr + 2 * size.N * size.TILES)


@triton.jit
def finish_maps(saved_ptr, scratch_ptr, used, weight_ptr, work, size, RULE, POOLED, BLOCK, MERGE, ACC):
    """Merge the pieces of maps: gradients of their mixed moments, summed over the tile."""
    plane = size.N * size.ROW
    grads = gradient_tables(scratch_ptr, size)
    shares = tl.zeros((8,), ACC)
    for n0 in range(work.first, work.last, MERGE.OWN):
        maps = maps_at(n0, work.last, work.tile, size, MERGE.OWN, BLOCK)
        total, product = merged_sums(scratch_ptr, maps, size, MERGE)
        offset, deviation = load_two(maps_table(saved_ptr) + maps.place + 2 * plane, plane, maps.inside)
        scale = scale_of(deviation, weight_ptr, maps, size)
        normalized, mean_grad, var_grad = mixed_gradients(total, product, offset, deviation, scale)
        at = grads.maps + maps.place
        store_two(at, plane, mean_grad, var_grad, maps.inside)
        store_two(at + 2 * plane, plane, total, normalized, maps.inside)
        if POOLED:
            at_tile = grads.tiles + maps.n * size.TILES + work.tile
            of_mean, of_var = tl.sum(mean_grad, 1), tl.sum(var_grad, 1)
            store_two(at_tile, size.N * size.TILES, of_mean, of_var, maps.n < work.last)
        if RULE.MIXED:
            shares += importance_shares(mean_grad, var_grad, saved_ptr, used, maps, size, RULE)
    if RULE.MIXED:
        group = work.first // size.SAMPLES
        tl.store(grads.shares + 8 * (size.TILES + group * size.TILES + work.tile) + tl.arange(0, 8), shares)


@triton.jit
def sum_samples(scratch_ptr, used, dweight_ptr, dbias_ptr, tile, size, RULE, BLOCK, MERGE, ACC):
    """Sum over the samples of a tile of channels: part by part of the batch, and in all."""
    plane = size.N * size.ROW
    grads = gradient_tables(scratch_ptr, size)
    CHANNELS: tl.constexpr = BLOCK.C
    c = tile * BLOCK.C + tl.arange(0, BLOCK.C)
    of_weight = tl.zeros((CHANNELS,), ACC)
    of_bias = tl.zeros((CHANNELS,), ACC)
    for part in range(size.N // size.PART):
        end = (part + 1) * size.PART
        of_mean = tl.zeros((CHANNELS,), ACC)
        of_var = tl.zeros((CHANNELS,), ACC)
        for n0 in range(end - size.PART, end, MERGE.N):
            maps = maps_at(n0, end, tile, size, MERGE.N, BLOCK)
            at = grads.maps + maps.place
            if RULE.BATCH >= 0 and used.mean is None:
                mean_grad, var_grad = load_two(at, plane, maps.inside)
                of_mean += tl.sum(mean_grad, 0)
                of_var += tl.sum(var_grad, 0)
            if dbias_ptr is not None:
                of_bias += tl.sum(tl.load(at + 2 * plane, mask=maps.inside, other=0), 0)
            if dweight_ptr is not None:
                of_weight += tl.sum(tl.load(at + 3 * plane, mask=maps.inside, other=0), 0)
        if RULE.BATCH >= 0 and used.mean is None:
            store_two(grads.parts + part * size.ROW + c, size.N // size.PART * size.ROW, of_mean, of_var, c < size.C)
    if dweight_ptr is not None:
        tl.store(dweight_ptr + c, of_weight, mask=c < size.C)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + c, of_bias, mask=c < size.C)
    if RULE.MIXED:
        groups = tl.cdiv(size.N, size.SAMPLES)
        shares = sum_shares(grads.shares + 8 * (size.TILES + tile), 8 * size.TILES, groups, ACC)
        tl.store(grads.shares + 8 * tile + tl.arange(0, 8), shares)


@triton.jit
def sum_shares(shares_ptr, stride, count, ACC):
    """The sum of `count` times eight numbers, which are `stride` apart."""
    total = tl.zeros((8,), ACC)
    slot = tl.arange(0, 8)[None, :]
    for k0 in range(0, count, SHARES):
        k = k0 + tl.arange(0, SHARES)[:, None]
        total += tl.sum(tl.load(shares_ptr + k * stride + slot, mask=k < count, other=0), 0)
    return total
