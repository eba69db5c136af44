"""The first launch of the forward pass: moments of every map, and what they add up to.

Every program writes the moments of its piece of each map into a slot of its own, so that no two add to the same number
and the result does not depend on their order. What follows is merged by the last program to finish (an integer counter
tells), in two steps, so that many programs share the first: of those that have pieces of the same maps, the last one
merges these and pools the maps of a tile; of those of one tile of channels, the last one pools all samples, and moves
the running statistics. The second launch then reads a handful of numbers per program.

The first program also computes the importance.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.bundles import Logits, Moving
from switchnorm.ops.kernels.triton.geometry import (
    block_at,
    block_offsets,
    elements_in,
    folded,
    last_of_maps,
    last_of_tile,
    maps_at,
    own_elements,
    own_piece,
    own_work,
    sizes,
    unbias,
    zeros,
)
from switchnorm.ops.kernels.triton.importance import write_importance
from switchnorm.ops.kernels.triton.rule import publish_batch
from switchnorm.ops.kernels.triton.tables import (
    batch_table,
    load_slots,
    load_two,
    maps_table,
    pool,
    pool_more,
    store_slots,
    store_two,
)


@triton.jit
def first_of(x_ptr, maps, size, BLOCK, ACC):
    """The first elements of maps."""
    place = maps.c.to(tl.int64)
    if not BLOCK.CHANNELS_LAST:
        place = place * size.L
    return tl.load(x_ptr + maps.n[:, None] * size.SAMPLE + place[None, :], mask=maps.inside, other=0).to(ACC)


@triton.jit
def piece_moments(x_ptr, first, maps, piece, size, BLOCK, MERGE, ACC):
    """Mean, relative to the map's first element, and sum of squared deviations of a piece of maps.

    Sums of differences from the first element do not cancel as those of x do: it is one of the numbers that vary.
    """
    offsets = block_offsets(size, BLOCK)
    total = zeros(BLOCK.N, BLOCK.C, MERGE.FOLD, ACC)
    square = zeros(BLOCK.N, BLOCK.C, MERGE.FOLD, ACC)
    begin, end, steps = own_piece(piece, size, BLOCK)
    for i in tl.range(0, steps, num_stages=BLOCK.STAGES):
        start, mask = block_at(maps, begin + i * BLOCK.L, end, size, BLOCK)
        x = tl.load(x_ptr + start + offsets, mask=mask, other=0).to(ACC)
        apart = tl.where(own_elements(mask, begin + i * BLOCK.L, maps, size, BLOCK), x - first[:, :, None], 0)
        total += folded(apart, MERGE.FOLD, BLOCK)
        square += folded(apart * apart, MERGE.FOLD, BLOCK)
    # A piece of nothing but elements of other maps has sums of 0.
    elements = tl.maximum(elements_in(piece, maps.c[None, :], size, BLOCK), 1).to(ACC)
    mean = tl.sum(total, 2) / elements
    # NaN passes: a comparison with it is false.
    deviations = tl.sum(square, 2) - mean * mean * elements
    return mean, tl.where(deviations < 0, 0, deviations)


@triton.jit
def merged_moments(slots_ptr, maps, size, BLOCK, MERGE, ACC):
    """Mean, relative to the first element, and population variance of maps from their slots."""
    mean, deviations, piece, exists = load_slots(slots_ptr, maps, size, MERGE)
    elements = elements_in(piece, maps.c[None, None, :], size, BLOCK).to(ACC)
    centre = tl.sum(mean * elements, 1) / size.L.to(ACC)
    apart = mean - centre[:, None, :]
    return centre, tl.sum(tl.where(exists, deviations + elements * apart * apart, 0), 1) / size.L.to(ACC)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "PIECE", "SAMPLES", "PART", "WIDTH"])
def moments_kernel(
    x_ptr, saved_ptr, scratch_ptr, batch_ptr, counter_ptr,
    mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr,
    moved_mean_ptr, moved_var_ptr, batches_ptr,
    share, rest, N, C, L, P, PIECE, SAMPLES, PART, WIDTH,
    CHOICE: tl.constexpr, RULE: tl.constexpr, POOLED: tl.constexpr, COUNTED: tl.constexpr,
    BLOCK: tl.constexpr, MERGE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Moments of maps; POOLED: of tiles of channels too; RULE.BATCH: of parts of PART samples, and their mean.

    scratch: slots (2, N, P, C), then pooled tiles (2, N, TILES). COUNTED: several programs have samples of a tile.
    """
    size = sizes(N, C, L, P, PIECE, SAMPLES, PART, WIDTH, BLOCK)
    work = own_work(size, False)
    for n0 in tl.range(work.first, work.last, BLOCK.N, num_stages=BLOCK.STAGES if BLOCK.WHOLE else 1):
        maps = maps_at(n0, work.last, work.tile, size, BLOCK.N, BLOCK)
        pivot = first_of(x_ptr, maps, size, BLOCK, ACC)
        mean, deviations = piece_moments(x_ptr, pivot, maps, work.piece, size, BLOCK, MERGE, ACC)
        if MERGE.P == 1:
            var = deviations / size.L.to(ACC)
            store_two(maps_table(saved_ptr) + maps.place, size.N * size.ROW, pivot + mean, var, maps.inside)
        else:
            store_slots(scratch_ptr, maps, work.piece, size, mean, deviations)
    if MERGE.P > 1 or POOLED or RULE.BATCH >= 0:  # noqa: SIM102
        if last_of_maps(counter_ptr, work, size, MERGE):
            if MERGE.P > 1 or POOLED:
                finish_maps(x_ptr, saved_ptr, scratch_ptr, work, size, RULE, POOLED, BLOCK, MERGE, ACC)
            if RULE.BATCH >= 0:  # noqa: SIM102
                if last_of_tile(counter_ptr, work, size, MERGE, COUNTED):
                    moving = Moving(batch_ptr, moved_mean_ptr, moved_var_ptr, batches_ptr, share, rest)
                    pool_batch(saved_ptr, moving, work.tile, size, RULE, BLOCK, MERGE, ACC)
    # Last, when its registers are free. The first condition is the compiler's, the second the program's.
    if mean_logits_ptr is not None:  # noqa: SIM102
        if tl.program_id(0) == 0:
            logits = Logits(mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr)
            write_importance(saved_ptr, logits, CHOICE, ACC)


@triton.jit
def finish_maps(x_ptr, saved_ptr, scratch_ptr, work, size, RULE, POOLED, BLOCK, MERGE, ACC):
    """Merge the pieces of maps, and pool those of a tile."""
    plane = size.N * size.ROW
    for n0 in range(work.first, work.last, MERGE.OWN):
        maps = maps_at(n0, work.last, work.tile, size, MERGE.OWN, BLOCK)
        at = maps_table(saved_ptr) + maps.place
        if MERGE.P == 1:
            mean, var = load_two(at, plane, maps.inside)
        else:
            mean, var = merged_moments(scratch_ptr, maps, size, BLOCK, MERGE, ACC)
            mean += first_of(x_ptr, maps, size, BLOCK, ACC)
            store_two(at, plane, mean, var, maps.inside)
        if POOLED:
            if RULE.UNBIASED:
                var = unbias(var, size.L)
            width = tl.minimum(BLOCK.C, size.C - work.tile * BLOCK.C)
            tile_mean, tile_spread = pool(mean, var, maps.inside, width, 1)
            pooled = scratch_ptr + 2 * plane * size.P + maps.n[:, None] * size.TILES + work.tile
            store_two(pooled, size.N * size.TILES, tile_mean, tile_spread, (maps.n < work.last)[:, None])


@triton.jit
def pool_batch(saved_ptr, moving, tile, size, RULE, BLOCK, MERGE, ACC):
    """The batch statistics of a tile of channels, part by part of PART samples, and their mean over the parts."""
    CHANNELS: tl.constexpr = BLOCK.C
    c = tile * BLOCK.C + tl.arange(0, BLOCK.C)
    over_parts_mean = tl.zeros((1, CHANNELS), ACC)
    over_parts_var = tl.zeros((1, CHANNELS), ACC)
    for part in range(size.N // size.PART):
        start = part * size.PART
        end = start + size.PART
        part_mean = tl.zeros((1, CHANNELS), ACC)
        part_spread = tl.zeros((1, CHANNELS), ACC)
        for n0 in range(start, end, MERGE.N):
            maps = maps_at(n0, end, tile, size, MERGE.N, BLOCK)
            mean, var = load_two(maps_table(saved_ptr) + maps.place, size.N * size.ROW, maps.inside)
            if RULE.UNBIASED:
                var = unbias(var, size.L)
            more = tl.minimum(end - n0, MERGE.N)
            more_mean, more_spread = pool(mean, var, maps.inside, more, 0)
            part_mean, part_spread = pool_more(part_mean, part_spread, n0 - start, more_mean, more_spread, more)
        part_var = part_spread / size.PART.to(ACC)
        if RULE.FLAT and RULE.UNBIASED:
            part_var = unbias(part_var, size.PART)
        at = batch_table(saved_ptr, size, RULE) + part * size.ROW + c[None, :]
        store_two(at, size.N // size.PART * size.ROW, part_mean, part_var, (c < size.C)[None, :])
        if not RULE.UNBIASED:
            part_var = unbias(part_var, size.PART.to(tl.int64) * size.L)
        parts = tl.full((), part + 1, ACC)
        over_parts_mean += (part_mean - over_parts_mean) / parts
        over_parts_var += (part_var - over_parts_var) / parts
    publish_batch(moving, over_parts_mean, over_parts_var, tile, c, size)
