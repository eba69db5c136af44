"""The tables that launches hand to each other, and averages over them, on the device.

`saved` is one buffer, kept for the backward pass: planes (N, C) of the maps' mean, their population variance, the
offset of the mixed mean from the own one, and the mixed deviation's inverse; then mean and variance of the layer,
(N,) each, of the groups, (N, G) each, and of the parts of the batch, (N / PART, C) each, as far as the rule has them.

A statistic's name in capitals (INSTANCE, LAYER, BATCH, GROUP) is its place in the rule, or -1 where the rule lacks it.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def layer_table(saved_ptr, N, C):
    """Mean and variance of the samples: (2, N)."""
    return saved_ptr + 4 * N * C.to(tl.int64)


@triton.jit
def group_table(saved_ptr, N, C, LAYER: tl.constexpr):
    """Mean and variance of the groups: (2, N, C / WIDTH)."""
    pointer = layer_table(saved_ptr, N, C)
    if LAYER >= 0:
        pointer += 2 * N
    return pointer


@triton.jit
def batch_table(saved_ptr, N, C, WIDTH, LAYER: tl.constexpr, GROUP: tl.constexpr):
    """Mean and variance of the parts of the batch: (2, N / PART, C)."""
    pointer = group_table(saved_ptr, N, C, LAYER)
    if GROUP >= 0:
        pointer += 2 * N * (C // WIDTH).to(tl.int64)
    return pointer


@triton.jit
def weight_at(importance_ptr, PLACE: tl.constexpr, ACC: tl.constexpr):
    """The importance of a statistic; 1 for the single one of a rule without importance."""
    return tl.full((), 1, ACC) if importance_ptr is None else tl.load(importance_ptr + PLACE).to(ACC)


@triton.jit
def average(values, inside, count, AXIS: tl.constexpr, ACC: tl.constexpr):
    """The mean over one axis of a block, relative to its first entry so that a common offset costs no digits."""
    pivot = tl.sum(tl.where(entries(values, AXIS) == 0, values, 0), AXIS, keep_dims=True)
    total = tl.sum(tl.where(inside, values - pivot, 0), AXIS, keep_dims=True)
    return pivot + total / count.to(ACC)


@triton.jit
def entries(values, AXIS: tl.constexpr):
    """The index along one axis of a two-dimensional block, broadcast against it."""
    index = tl.arange(0, values.shape[AXIS])
    return tl.expand_dims(index, 1 - AXIS)


@triton.jit
def pool(mean, var, inside, count, AXIS: tl.constexpr, ACC: tl.constexpr):
    """Mean over one axis, and the sum there of variances and of squared distances to that mean."""
    centre = average(mean, inside, count, AXIS, ACC)
    apart = mean - centre
    return centre, tl.sum(tl.where(inside, var + apart * apart, 0), AXIS, keep_dims=True)


@triton.jit
def pool_more(mean, spread, before, more_mean, more_spread, more, ACC: tl.constexpr):
    """`pool` of `before` entries and of `more` others as one (Chan, Golub, LeVeque 1979)."""
    shift = more_mean - mean
    share = more.to(ACC) / (before + more).to(ACC)
    return mean + shift * share, spread + more_spread + shift * shift * (before.to(ACC) * share)


@triton.jit
def pool_tiles(pooled_ptr, n, first, count, N, C, BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, ACC: tl.constexpr):
    """Mean and population variance over adjacent tiles of sample n, from each tile's own; scalars."""
    tiles = tl.cdiv(C, BLOCK_C)
    tile = first + tl.arange(0, BLOCK_T)
    inside = tl.arange(0, BLOCK_T) < count
    width = tl.where(inside, tl.minimum(BLOCK_C, C - tile * BLOCK_C), 0).to(ACC)
    at = pooled_ptr + n * tiles + tile
    mean = tl.load(at, mask=inside, other=0)
    spread = tl.load(at + N * tiles, mask=inside, other=0)
    channels = tl.sum(width, 0)
    pivot = tl.sum(tl.where(tl.arange(0, BLOCK_T) == 0, mean, 0), 0)
    centre = pivot + tl.sum(width * tl.where(inside, mean - pivot, 0), 0) / channels
    apart = mean - centre
    return centre, tl.sum(tl.where(inside, spread + width * apart * apart, 0), 0) / channels


@triton.jit
def sum_tiles(pooled_ptr, n, first, count, N, C, BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr):
    """The two sums over adjacent tiles of sample n, from each tile's own; scalars."""
    tiles = tl.cdiv(C, BLOCK_C)
    inside = tl.arange(0, BLOCK_T) < count
    at = pooled_ptr + n * tiles + first + tl.arange(0, BLOCK_T)
    return (
        tl.sum(tl.load(at, mask=inside, other=0), 0),
        tl.sum(tl.load(at + N * tiles, mask=inside, other=0), 0),
    )


@triton.jit
def pool_group(mean_ptr, n, c, N, C, factor, WIDTH, BLOCK_C: tl.constexpr, BLOCK_W: tl.constexpr, ACC: tl.constexpr):
    """Mean and population variance of each channel's group, from the maps' own; for groups that tiles cut.

    Every channel reads its whole group: either that is short, or groups are laid out unusually.
    """
    plane = N.to(tl.int64) * C
    start = c // WIDTH * WIDTH
    at = mean_ptr + n * C.to(tl.int64) + start
    pivot = tl.load(at, mask=c < C, other=0)
    total = tl.zeros((BLOCK_C,), ACC)
    for w in range(0, WIDTH, BLOCK_W):
        member = w + tl.arange(0, BLOCK_W)[None, :]
        inside = (c < C)[:, None] & (member < WIDTH)
        mean = tl.load(at[:, None] + member, mask=inside, other=0)
        total += tl.sum(tl.where(inside, mean - pivot[:, None], 0), 1)
    centre = pivot + total / WIDTH.to(ACC)
    spread = tl.zeros((BLOCK_C,), ACC)
    for w in range(0, WIDTH, BLOCK_W):
        member = w + tl.arange(0, BLOCK_W)[None, :]
        inside = (c < C)[:, None] & (member < WIDTH)
        apart = tl.load(at[:, None] + member, mask=inside, other=0) - centre[:, None]
        var = tl.load(at[:, None] + plane + member, mask=inside, other=0) * factor
        spread += tl.sum(tl.where(inside, var + apart * apart, 0), 1)
    return centre, spread / WIDTH.to(ACC)


@triton.jit
def sum_group(table_ptr, n, c, N, C, WIDTH, BLOCK_C: tl.constexpr, BLOCK_W: tl.constexpr, ACC: tl.constexpr):
    """The sums over each channel's group of the two planes of a table; for groups that tiles cut."""
    plane = N.to(tl.int64) * C
    at = table_ptr + n * C.to(tl.int64) + c // WIDTH * WIDTH
    of_mean = tl.zeros((BLOCK_C,), ACC)
    of_var = tl.zeros((BLOCK_C,), ACC)
    for w in range(0, WIDTH, BLOCK_W):
        member = w + tl.arange(0, BLOCK_W)[None, :]
        inside = (c < C)[:, None] & (member < WIDTH)
        of_mean += tl.sum(tl.load(at[:, None] + member, mask=inside, other=0), 1)
        of_var += tl.sum(tl.load(at[:, None] + plane + member, mask=inside, other=0), 1)
    return of_mean, of_var
