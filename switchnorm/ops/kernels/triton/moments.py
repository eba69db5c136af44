"""The first launch of the forward pass: moments of every map, and what they add up to.

Every program writes the moments of its piece of each map into a slot of its own, so that no two add to the same number
and the result does not depend on their order. Of the programs of a tile of channels, the last to finish (an integer
counter tells) merges the slots: it writes the maps' moments, the tile's share of the layer and group statistics, and
the batch statistics of its channels. The second launch then reads a handful of numbers per program; if it merged the
slots itself, each of its programs would read all samples of its channels and all channels of its samples, at 7 x 7 maps
more than its share of x.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.geometry import (
    STAGES,
    arrived_last,
    block_mask,
    block_offsets,
    block_start,
    channels_of,
    known_multiples,
    own_steps,
    own_work,
    unbias,
)
from switchnorm.ops.kernels.triton.tables import batch_table, pool, pool_more


@triton.jit
def piece_moments(
    x_ptr,
    n,
    tile,
    piece,
    C,
    L,
    STEPS,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    ACC: tl.constexpr,
):
    """Mean, relative to the map's first element, and sum of squared deviations of one piece of each map of a tile.

    Sums of differences from the first element do not cancel as those of x do: it is one of the numbers that vary.
    """
    offsets = block_offsets(C, L, CHANNELS_LAST, BLOCK_C, BLOCK_L)
    c = channels_of(tile, BLOCK_C)
    first = first_of(x_ptr, n + tl.arange(0, 1), c, (c < C)[None, :], C, L, CHANNELS_LAST, ACC)
    first = tl.sum(first, 0)[:, None]
    total = tl.zeros((BLOCK_C, BLOCK_L), ACC)
    square = tl.zeros((BLOCK_C, BLOCK_L), ACC)
    for i in tl.range(0, own_steps(piece, L, STEPS, BLOCK_L), num_stages=STAGES):
        l0 = (piece * STEPS + i) * BLOCK_L
        mask = block_mask(tile, l0, C, L, BLOCK_C, BLOCK_L)
        start = block_start(n, tile, l0, C, L, CHANNELS_LAST, BLOCK_C)
        x = tl.load(x_ptr + start + offsets, mask=mask, other=0).to(ACC)
        apart = tl.where(mask, x - first, 0)
        total += apart
        square += apart * apart
    elements = tl.minimum(STEPS * BLOCK_L, L - piece * STEPS * BLOCK_L).to(ACC)
    mean = tl.sum(total, 1) / elements
    # NaN passes: a comparison with it is false.
    deviations = tl.sum(square, 1) - mean * mean * elements
    return mean, tl.where(deviations < 0, 0, deviations)


@triton.jit
def merged_moments(
    slots_ptr,
    n,
    c,
    inside,
    N,
    C,
    L,
    P,
    PIECE,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
):
    """Mean, relative to the first element, and population variance of maps (BLOCK_N, BLOCK_C) from their slots."""
    row = C.to(tl.int64)
    piece = tl.arange(0, BLOCK_P)[None, :, None]
    at = slots_ptr + (n[:, None, None] * row * P + piece * row) + c[None, None, :]
    exists = inside[:, None, :] & (piece < P)
    elements = tl.minimum(PIECE, tl.maximum(L - piece * PIECE, 0)).to(ACC)
    mean = tl.load(at, mask=exists, other=0)
    deviations = tl.load(at + N * row * P, mask=exists, other=0)
    centre = tl.sum(mean * elements, 1) / L.to(ACC)
    apart = mean - centre[:, None, :]
    return centre, tl.sum(tl.where(exists, deviations + elements * apart * apart, 0), 1) / L.to(ACC)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "STEPS", "SAMPLES", "PART", "WIDTH"])
def moments_kernel(
    x_ptr,
    saved_ptr,
    scratch_ptr,
    batch_ptr,
    counter_ptr,
    N,
    C,
    L,
    P,
    STEPS,
    SAMPLES,
    PART,
    WIDTH,
    POOLED: tl.constexpr,
    LAYER: tl.constexpr,
    BATCH: tl.constexpr,
    GROUP: tl.constexpr,
    UNBIASED: tl.constexpr,
    FLAT: tl.constexpr,
    COUNTED: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
):
    """Moments of maps; POOLED: of tiles of channels too; BATCH: of parts of PART samples, and their mean in batch_ptr.

    scratch: slots (2, N, P, C), then pooled (2, N, tiles). COUNTED: several programs share what the last one finishes.
    """
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    tile, first, last, piece = own_work(N, C, P, SAMPLES, BLOCK_C, False)
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    for n in range(first, last):
        mean, deviations = piece_moments(x_ptr, n, tile, piece, C, L, STEPS, CHANNELS_LAST, BLOCK_C, BLOCK_L, ACC)
        at = scratch_ptr + (n * row * P + piece * row) + c
        tl.store(at, mean, mask=c < C)
        tl.store(at + N * row * P, deviations, mask=c < C)
    if COUNTED:
        index = tile
        expected = tl.cdiv(N, SAMPLES) * P
        if BATCH >= 0:
            first = tl.zeros_like(first)
            last = N
        else:
            index = first * tl.cdiv(C, BLOCK_C) + tile
            expected = P
        finishes = arrived_last(counter_ptr, index, expected)
    else:
        tl.debug_barrier()
        finishes = True
    if finishes:
        finish_moments(
            x_ptr, saved_ptr, scratch_ptr, batch_ptr, tile, first, last, N, C, L, P, STEPS * BLOCK_L, PART, WIDTH,
            POOLED, LAYER, BATCH, GROUP, UNBIASED, FLAT, CHANNELS_LAST, BLOCK_C, BLOCK_N, BLOCK_P, ACC,
        )  # fmt: skip


@triton.jit
def finish_moments(
    x_ptr,
    saved_ptr,
    scratch_ptr,
    batch_ptr,
    tile,
    first,
    last,
    N,
    C,
    L,
    P,
    PIECE,
    PART,
    WIDTH,
    POOLED: tl.constexpr,
    LAYER: tl.constexpr,
    BATCH: tl.constexpr,
    GROUP: tl.constexpr,
    UNBIASED: tl.constexpr,
    FLAT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
):
    """Merge the slots of a tile, samples `first` to `last`; part by part, or as one part without batch statistics."""
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    table_ptr = batch_table(saved_ptr, N, C, WIDTH, LAYER, GROUP)
    parts = 0
    over_parts_mean = tl.zeros((1, BLOCK_C), ACC)
    over_parts_var = tl.zeros((1, BLOCK_C), ACC)
    step = last - first
    if BATCH >= 0:
        step = PART
    for start in range(first, last, step):
        part_mean = tl.zeros((1, BLOCK_C), ACC)
        part_spread = tl.zeros((1, BLOCK_C), ACC)
        for n0 in range(start, start + step, BLOCK_N):
            n = n0 + tl.arange(0, BLOCK_N)
            more = tl.minimum(start + step - n0, BLOCK_N)
            inside = (tl.arange(0, BLOCK_N) < more)[:, None] & (c < C)[None, :]
            mean, var = merged_moments(scratch_ptr, n, c, inside, N, C, L, P, PIECE, BLOCK_P, ACC)
            mean += first_of(x_ptr, n, c, inside, C, L, CHANNELS_LAST, ACC)
            at = saved_ptr + n[:, None] * row + c[None, :]
            tl.store(at, mean, mask=inside)
            tl.store(at + N * row, var, mask=inside)
            if UNBIASED:
                var = unbias(var, L, ACC)
            if POOLED:
                tiles = tl.cdiv(C, BLOCK_C)
                width = tl.minimum(BLOCK_C, C - tile * BLOCK_C)
                layer_mean, layer_spread = pool(mean, var, inside, width, 1, ACC)
                at = scratch_ptr + 2 * N * row * P + n[:, None] * tiles + tile
                tl.store(at, layer_mean, mask=(n < n0 + more)[:, None])
                tl.store(at + N * tiles, layer_spread, mask=(n < n0 + more)[:, None])
            if BATCH >= 0:
                more_mean, more_spread = pool(mean, var, inside, more, 0, ACC)
                part_mean, part_spread = pool_more(
                    part_mean, part_spread, tl.full((), n0 - start, tl.int32), more_mean, more_spread, more, ACC
                )
        if BATCH >= 0:
            part_var = part_spread / PART.to(ACC)
            if FLAT and UNBIASED:
                part_var = unbias(part_var, PART, ACC)
            at = table_ptr + parts * row + c[None, :]
            tl.store(at, part_mean, mask=(c < C)[None, :])
            tl.store(at + N // PART * row, part_var, mask=(c < C)[None, :])
            if not UNBIASED:
                part_var = unbias(part_var, PART.to(tl.int64) * L, ACC)
            parts += 1
            over_parts_mean += (part_mean - over_parts_mean) / tl.full((), parts, ACC)
            over_parts_var += (part_var - over_parts_var) / tl.full((), parts, ACC)
    if BATCH >= 0:
        tl.store(batch_ptr + c[None, :], over_parts_mean, mask=(c < C)[None, :])
        tl.store(batch_ptr + C + c[None, :], over_parts_var, mask=(c < C)[None, :])


@triton.jit
def first_of(x_ptr, n, c, inside, C, L, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr):
    """The first elements of maps (BLOCK_N, BLOCK_C)."""
    row = C.to(tl.int64)
    place = c.to(tl.int64)
    if not CHANNELS_LAST:
        place = place * L
    return tl.load(x_ptr + n[:, None] * (row * L) + place[None, :], mask=inside, other=0).to(ACC)
