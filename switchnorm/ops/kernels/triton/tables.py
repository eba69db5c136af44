"""The tables that launches hand to each other, and averages over them, on the device.

`saved` is one buffer, kept for the backward pass: the importance of four statistics in the mean and in the variance;
planes (N, C) of the maps' mean, their population variance, the offset of the mixed mean from the own one, and the mixed
deviation's inverse; then mean and variance of the layer, (N,) each, of the groups, (N, G) each, and of the parts of the
batch, (N / PART, C) each, as far as the rule has them.

What is pooled over channels is pooled by tiles first; each program of the second launch reads the tiles of its samples.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: Numbers of importance at the head of `saved`.
HEAD = tl.constexpr(8)


@triton.jit
def maps_table(saved_ptr):
    """Mean, variance, offset and inverse deviation of maps: (4, N, C)."""
    return saved_ptr + HEAD


@triton.jit
def layer_table(saved_ptr, size):
    """Mean and variance of the samples: (2, N)."""
    return saved_ptr + HEAD + 4 * size.N * size.ROW


@triton.jit
def group_table(saved_ptr, size, RULE):
    """Mean and variance of the groups: (2, N, C / WIDTH)."""
    pointer = layer_table(saved_ptr, size)
    if RULE.LAYER >= 0:
        pointer += 2 * size.N
    return pointer


@triton.jit
def batch_table(saved_ptr, size, RULE):
    """Mean and variance of the parts of the batch: (2, N / PART, C)."""
    pointer = group_table(saved_ptr, size, RULE)
    if RULE.GROUP >= 0:
        pointer += 2 * size.N * (size.C // size.WIDTH).to(tl.int64)
    return pointer


@triton.jit
def load_two(at, plane, mask):
    """What adjacent planes of a table hold; 0 where there is nothing."""
    return tl.load(at, mask=mask, other=0), tl.load(at + plane, mask=mask, other=0)


@triton.jit
def store_two(at, plane, first, second, mask):
    """The way back of `load_two`."""
    tl.store(at, first, mask=mask)
    tl.store(at + plane, second, mask=mask)


@triton.jit
def store_slots(slots_ptr, maps, piece, size, first, second):
    """Write two numbers of a piece of each map into slots (2, N, P, C), where no one else writes."""
    at = slots_ptr + maps.n[:, None] * (size.ROW * size.P) + piece * size.ROW + maps.c[None, :]
    store_two(at, size.N * size.ROW * size.P, first, second, maps.inside)


@triton.jit
def load_slots(slots_ptr, maps, size, MERGE):
    """Both numbers of all pieces of maps, (N, MERGE.P, C), which pieces these are, and whether they exist."""
    piece = tl.arange(0, MERGE.P)[None, :, None]
    at = slots_ptr + (maps.n[:, None, None] * size.ROW * size.P + piece * size.ROW) + maps.c[None, None, :]
    exists = maps.inside[:, None, :] & (piece < size.P)
    first, second = load_two(at, size.N * size.ROW * size.P, exists)
    return first, second, piece, exists


@triton.jit
def average(values, inside, count, AXIS):
    """The mean over one axis of a block, relative to its first entry so that a common offset costs no digits."""
    entry = tl.expand_dims(tl.arange(0, values.shape[AXIS]), 1 - AXIS)
    pivot = tl.sum(tl.where(entry == 0, values, 0), AXIS, keep_dims=True)
    total = tl.sum(tl.where(inside, values - pivot, 0), AXIS, keep_dims=True)
    return pivot + total / count.to(values.dtype)


@triton.jit
def pool(mean, var, inside, count, AXIS):
    """Mean over one axis, and the sum there of variances and of squared distances to that mean."""
    centre = average(mean, inside, count, AXIS)
    apart = mean - centre
    return centre, tl.sum(tl.where(inside, var + apart * apart, 0), AXIS, keep_dims=True)


@triton.jit
def pool_more(mean, spread, before, more_mean, more_spread, more):
    """`pool` of `before` entries and of `more` others as one (Chan, Golub, LeVeque 1979)."""
    shift = more_mean - mean
    share = more.to(mean.dtype) / (before + more).to(mean.dtype)
    return mean + shift * share, spread + more_spread + shift * shift * (before.to(mean.dtype) * share)


@triton.jit
def tile_entries(pooled_ptr, maps, first, end, size, POOL):
    """Two planes (N, TILES) at POOL.T adjacent tiles of each sample of maps, which they are and which exist."""
    tile = first + tl.arange(0, POOL.T)[None, :]
    exists = (maps.n < size.N)[:, None] & (tile < end)
    of_mean, of_var = load_two(pooled_ptr + maps.n[:, None] * size.TILES + tile, size.N * size.TILES, exists)
    return of_mean, of_var, tile, exists


@triton.jit
def pool_tiles(pooled_ptr, maps, first, count, size, BLOCK, POOL, ACC):
    """Mean and population variance of samples (BLOCK.N, 1) over `count` adjacent tiles, from each tile's own."""
    ROWS: tl.constexpr = BLOCK.N
    end = first + count
    before = tl.zeros((ROWS, 1), tl.int32)
    centre = tl.zeros((ROWS, 1), ACC)
    spread = tl.zeros((ROWS, 1), ACC)
    steps = 1 if POOL.ALL_T else tl.cdiv(count, POOL.T)
    for i in range(steps):
        t0 = first + i * POOL.T
        mean, var, tile, exists = tile_entries(pooled_ptr, maps, t0, end, size, POOL)
        width = tl.where(tile < end, tl.minimum(BLOCK.C, size.C - tile * BLOCK.C), 0)
        more = tl.sum(width, 1, keep_dims=True)
        pivot = tl.sum(tl.where(tile == t0, mean, 0), 1, keep_dims=True)
        apart = tl.where(exists, mean - pivot, 0)
        of_more = pivot + tl.sum(width.to(ACC) * apart, 1, keep_dims=True) / more.to(ACC)
        apart = mean - of_more
        inner = tl.sum(tl.where(exists, var + width.to(ACC) * apart * apart, 0), 1, keep_dims=True)
        centre, spread = pool_more(centre, spread, before, of_more, inner, more)
        before += more
    return centre, spread / before.to(ACC)


@triton.jit
def sum_tiles(pooled_ptr, maps, first, count, size, BLOCK, POOL, ACC):
    """The two sums of samples (BLOCK.N, 1) over `count` adjacent tiles."""
    ROWS: tl.constexpr = BLOCK.N
    of_mean = tl.zeros((ROWS, 1), ACC)
    of_var = tl.zeros((ROWS, 1), ACC)
    steps = 1 if POOL.ALL_T else tl.cdiv(count, POOL.T)
    for i in range(steps):
        mean, var, _, _ = tile_entries(pooled_ptr, maps, first + i * POOL.T, first + count, size, POOL)
        of_mean += tl.sum(mean, 1, keep_dims=True)
        of_var += tl.sum(var, 1, keep_dims=True)
    return of_mean, of_var


@triton.jit
def group_members(table_ptr, maps, w, size, POOL):
    """Two planes (N, C) at POOL.W members of each map's group, from the w-th on, and which exist."""
    member = w + tl.arange(0, POOL.W)[None, None, :]
    exists = maps.inside[:, :, None] & (member < size.WIDTH)
    start = maps.n[:, None] * size.ROW + (maps.c // size.WIDTH * size.WIDTH)[None, :]
    of_mean, of_var = load_two(table_ptr + start[:, :, None] + member, size.N * size.ROW, exists)
    return of_mean, of_var, exists


@triton.jit
def pool_group(maps_ptr, maps, factor, size, POOL):
    """Mean and population variance of each map's group, from the maps' own; for groups that tiles cut.

    Every map reads its whole group: either that is short, or groups are laid out unusually.
    """
    start = maps.n[:, None] * size.ROW + (maps.c // size.WIDTH * size.WIDTH)[None, :]
    pivot = tl.load(maps_ptr + start, mask=maps.inside, other=0)
    total = tl.zeros_like(pivot)
    for w in range(0, size.WIDTH, POOL.W):
        mean, _, exists = group_members(maps_ptr, maps, w, size, POOL)
        total += tl.sum(tl.where(exists, mean - pivot[:, :, None], 0), 2)
    centre = pivot + total / size.WIDTH.to(pivot.dtype)
    spread = tl.zeros_like(pivot)
    for w in range(0, size.WIDTH, POOL.W):
        mean, var, exists = group_members(maps_ptr, maps, w, size, POOL)
        apart = mean - centre[:, :, None]
        spread += tl.sum(tl.where(exists, var * factor + apart * apart, 0), 2)
    return centre, spread / size.WIDTH.to(pivot.dtype)


@triton.jit
def sum_group(table_ptr, maps, size, POOL, ACC):
    """The sums over each map's group of the two planes of a table; for groups that tiles cut."""
    of_mean = tl.zeros(maps.inside.shape, ACC)
    of_var = tl.zeros(maps.inside.shape, ACC)
    for w in range(0, size.WIDTH, POOL.W):
        mean, var, _ = group_members(table_ptr, maps, w, size, POOL)
        of_mean += tl.sum(mean, 2)
        of_var += tl.sum(var, 2)
    return of_mean, of_var
