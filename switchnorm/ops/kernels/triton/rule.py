"""The rule on the device: from moments of maps (BLOCK.N, BLOCK.C) to the mixed ones, and the way back of gradients.

Every statistic is written once, with its adjoint. Where programs hold all that a statistic is pooled from (POOL.HELD)
they pool it themselves; else an earlier launch has, over tiles of channels or parts of the batch.

A statistic sends back the average of what its entries got, its variance also along (mean - pooled mean): see
`switchnorm.ops.rule.gradient`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.geometry import unbias
from switchnorm.ops.kernels.triton.tables import (
    batch_table,
    group_table,
    layer_table,
    load_two,
    maps_table,
    pool,
    pool_group,
    pool_tiles,
    store_two,
    sum_group,
    sum_tiles,
)


@triton.jit
def weights_at(saved_ptr, PLACE, RULE, ACC):
    """The importance of a statistic in the mean and in the variance; 1 for the single one of a rule without logits."""
    of_mean = tl.full((), 1, ACC)
    of_var = tl.full((), 1, ACC)
    if RULE.MIXED:
        of_mean = tl.load(saved_ptr + PLACE)
        of_var = tl.load(saved_ptr + 4 + PLACE)
    return of_mean, of_var


@triton.jit
def rows_of(values, WIDTH):
    """Maps (N, C) as rows of groups of WIDTH channels."""
    return tl.reshape(values, (values.shape[0] * values.shape[1] // WIDTH, WIDTH))


@triton.jit
def spread_over(of_rows, values, WIDTH):
    """A number for each group, for each of its maps."""
    rows: tl.constexpr = values.shape[0] * values.shape[1] // WIDTH
    return tl.reshape(tl.broadcast_to(of_rows, (rows, WIDTH)), values.shape)


@triton.jit
def layer_at(saved_ptr, maps, size):
    """Where the layer's mean and variance of each map's sample are, and whether there is such a sample."""
    return layer_table(saved_ptr, size) + maps.n[:, None], (maps.n < size.N)[:, None]


@triton.jit
def group_at(saved_ptr, maps, size, RULE):
    """Where the mean and variance of each map's group are."""
    groups = size.C // size.WIDTH
    return group_table(saved_ptr, size, RULE) + (maps.n[:, None] * groups + maps.c[None, :] // size.WIDTH)


@triton.jit
def layer_moments(mean, var, pooled_ptr, maps, size, RULE, BLOCK, POOL):
    """Mean and variance of samples, (BLOCK.N, 1)."""
    if POOL.HELD > 0:
        of_layer, spread = pool(mean, var, maps.inside, size.C, 1)
        of_layer_var = spread / size.C.to(mean.dtype)
    else:
        of_layer, of_layer_var = pool_tiles(pooled_ptr, maps, 0, size.TILES, size, BLOCK, POOL, mean.dtype)
    if RULE.FLAT and RULE.UNBIASED:
        of_layer_var = unbias(of_layer_var, size.C)
    return of_layer, of_layer_var


@triton.jit
def group_moments(mean, var, saved_ptr, pooled_ptr, maps, size, RULE, BLOCK, POOL):
    """Mean and variance of the groups of maps."""
    if POOL.HELD > 0:
        of_rows, spread = pool(
            rows_of(mean, POOL.HELD), rows_of(var, POOL.HELD), rows_of(maps.inside, POOL.HELD), size.WIDTH, 1
        )
        of_group = spread_over(of_rows, mean, POOL.HELD)
        of_group_var = spread_over(spread / POOL.HELD, mean, POOL.HELD)
    elif POOL.W == 0:
        count = size.WIDTH // BLOCK.C
        first = maps.tile // count * count
        of_group, of_group_var = pool_tiles(pooled_ptr, maps, first, count, size, BLOCK, POOL, mean.dtype)
    else:
        factor = tl.full((), 1, mean.dtype)
        if RULE.UNBIASED:
            factor = unbias(factor, size.L)
        of_group, of_group_var = pool_group(maps_table(saved_ptr), maps, factor, size, POOL)
    if RULE.FLAT and RULE.UNBIASED:
        of_group_var = unbias(of_group_var, size.WIDTH)
    return of_group, of_group_var


@triton.jit
def batch_at(saved_ptr, used, maps, size, RULE, ACC):
    """Mean and variance of the batch, of the part that each sample is of, or the ones to use in place of these."""
    if used.mean is not None:
        exists = (maps.c < size.C)[None, :]
        mean = tl.load(used.mean + maps.c[None, :], mask=exists, other=0).to(ACC)
        var = tl.load(used.var + maps.c[None, :], mask=exists, other=0).to(ACC)
    else:
        at = batch_table(saved_ptr, size, RULE) + maps.n[:, None] // size.PART * size.ROW + maps.c[None, :]
        mean, var = load_two(at, size.N // size.PART * size.ROW, maps.inside)
    return mean, var


@triton.jit
def publish_batch(moving, mean, var, tile, c, size):
    """Hand out the batch's mean and variance (1, BLOCK.C), and move the running ones towards them."""
    exists = (c < size.C)[None, :]
    if moving.batch is not None:
        store_two(moving.batch + c[None, :], size.C, mean, var, exists)
    if moving.mean is not None:
        step = tl.full((), moving.share, mean.dtype) + tl.full((), moving.rest, mean.dtype)
        move(moving.mean + c[None, :], mean, step, exists)
        move(moving.var + c[None, :], var, step, exists)
        if tile == 0:
            tl.store(moving.counter, tl.load(moving.counter) + 1)


@triton.jit
def move(at, after, step, exists):
    """A step from the numbers in memory to others; a step of 1 arrives exactly."""
    before = tl.load(at, mask=exists, other=0).to(after.dtype)
    moved = tl.where(step < 0.5, before + (after - before) * step, after - (after - before) * (1 - step))
    tl.store(at, moved, mask=exists)


@triton.jit
def mixed_moments(mean, var, batch_mean, batch_var, saved_ptr, pooled_ptr, maps, keeps, size, RULE, BLOCK, POOL):
    """The offset of the mixed mean from each map's own, and the mixed variance.

    Means enter relative to the map's own, so that small differences keep their digits under a large common offset.
    Multiplications are fused to additions by hand: the compiler may do all this twice, for threads that write these
    numbers and for those that scale by them, and where it fused only one of these, the backward pass would read others.
    keeps: whether this program writes the statistics that the backward pass needs and no one has written yet.
    """
    offset = tl.zeros(mean.shape, mean.dtype)
    mixed = tl.zeros(mean.shape, mean.dtype)
    if RULE.INSTANCE >= 0:
        _, of_var = weights_at(saved_ptr, RULE.INSTANCE, RULE, mean.dtype)
        mixed = tl.fma(of_var, var, mixed)
    if RULE.LAYER >= 0:
        of_mean, of_var = weights_at(saved_ptr, RULE.LAYER, RULE, mean.dtype)
        layer_mean, layer_var = layer_moments(mean, var, pooled_ptr, maps, size, RULE, BLOCK, POOL)
        if keeps and maps.tile == 0:
            at, exists = layer_at(saved_ptr, maps, size)
            store_two(at, size.N, layer_mean, layer_var, exists)
        offset = tl.fma(of_mean, layer_mean - mean, offset)
        mixed = tl.fma(of_var, layer_var, mixed)
    if RULE.BATCH >= 0:
        of_mean, of_var = weights_at(saved_ptr, RULE.BATCH, RULE, mean.dtype)
        offset = tl.fma(of_mean, batch_mean - mean, offset)
        mixed = tl.fma(of_var, batch_var, mixed)
    if RULE.GROUP >= 0:
        of_mean, of_var = weights_at(saved_ptr, RULE.GROUP, RULE, mean.dtype)
        group_mean, group_var = group_moments(mean, var, saved_ptr, pooled_ptr, maps, size, RULE, BLOCK, POOL)
        if keeps:
            first = maps.inside & (maps.c % size.WIDTH == 0)[None, :]
            of_maps = tl.broadcast_to(group_mean, mean.shape), tl.broadcast_to(group_var, mean.shape)
            at = group_at(saved_ptr, maps, size, RULE)
            store_two(at, size.N * (size.C // size.WIDTH), of_maps[0], of_maps[1], first)
        offset = tl.fma(of_mean, group_mean - mean, offset)
        mixed = tl.fma(of_var, group_var, mixed)
    return offset, mixed


@triton.jit
def mixed_gradients(total, product, offset, deviation, scale):
    """From the sums about the own mean: dy times normalized x, and the gradients of mixed mean and variance.

    With y = (x - M) * scale + bias and scale = weight / sqrt(V + eps): dM = -scale * sum(dy), and
    dV = -1/2 * scale / (V + eps) * sum(dy * (x - M)).
    """
    normalized = (product - offset * total) * deviation
    return normalized, -scale * total, -0.5 * normalized * (scale * deviation)


@triton.jit
def sent_back(of_mean, of_var, mean, centre, from_mean, from_var, count, RULE):
    """Add what each of `count` entries gets of the gradients of their pooled mean and variance."""
    back = from_var / count.to(mean.dtype)
    if RULE.FLAT and RULE.UNBIASED:
        back = unbias(back, count)
    return of_mean + from_mean / count.to(mean.dtype) + 2 * (mean - centre) * back, of_var + back


@triton.jit
def moment_gradients(mean, mean_grad, var_grad, saved_ptr, grads, used, maps, size, RULE, BLOCK, POOL):
    """The gradients of each map's own mean and population variance, from those of the mixed ones.

    grads: the tables of an earlier launch, `Gradients`; not read in programs that hold all.
    """
    ACC: tl.constexpr = mean.dtype
    of_mean = tl.zeros(mean.shape, ACC)
    of_var = tl.zeros(mean.shape, ACC)
    if RULE.INSTANCE >= 0:
        w, v = weights_at(saved_ptr, RULE.INSTANCE, RULE, ACC)
        of_mean += w * mean_grad
        of_var += v * var_grad
    if RULE.LAYER >= 0:
        w, v = weights_at(saved_ptr, RULE.LAYER, RULE, ACC)
        if POOL.HELD > 0:
            from_mean, from_var = tl.sum(mean_grad, 1, keep_dims=True), tl.sum(var_grad, 1, keep_dims=True)
        else:
            from_mean, from_var = sum_tiles(grads.tiles, maps, 0, size.TILES, size, BLOCK, POOL, ACC)
        at, exists = layer_at(saved_ptr, maps, size)
        centre = tl.load(at, mask=exists, other=0)
        of_mean, of_var = sent_back(of_mean, of_var, mean, centre, w * from_mean, v * from_var, size.C, RULE)
    if RULE.BATCH >= 0 and used.mean is None:
        w, v = weights_at(saved_ptr, RULE.BATCH, RULE, ACC)
        at = maps.n[:, None] // size.PART * size.ROW + maps.c[None, :]
        if POOL.HELD > 0:
            from_mean, from_var = tl.sum(mean_grad, 0, keep_dims=True), tl.sum(var_grad, 0, keep_dims=True)
        else:
            from_mean, from_var = load_two(grads.parts + at, size.N // size.PART * size.ROW, maps.inside)
        centre = tl.load(batch_table(saved_ptr, size, RULE) + at, mask=maps.inside, other=0)
        of_mean, of_var = sent_back(of_mean, of_var, mean, centre, w * from_mean, v * from_var, size.PART, RULE)
    if RULE.GROUP >= 0:
        w, v = weights_at(saved_ptr, RULE.GROUP, RULE, ACC)
        if POOL.HELD > 0:
            from_mean = spread_over(tl.sum(rows_of(mean_grad, POOL.HELD), 1, keep_dims=True), mean, POOL.HELD)
            from_var = spread_over(tl.sum(rows_of(var_grad, POOL.HELD), 1, keep_dims=True), mean, POOL.HELD)
        elif POOL.W == 0:
            count = size.WIDTH // BLOCK.C
            first = maps.tile // count * count
            from_mean, from_var = sum_tiles(grads.tiles, maps, first, count, size, BLOCK, POOL, ACC)
        else:
            from_mean, from_var = sum_group(grads.maps, maps, size, POOL, ACC)
        centre = tl.load(group_at(saved_ptr, maps, size, RULE), mask=maps.inside, other=0)
        of_mean, of_var = sent_back(of_mean, of_var, mean, centre, w * from_mean, v * from_var, size.WIDTH, RULE)
    if RULE.UNBIASED:
        of_var = unbias(of_var, size.L)
    return of_mean, of_var


@triton.jit
def share(mean_grad, var_grad, apart, var, PLACE):
    """The gradients of the importance of the statistic at PLACE, in eight numbers: those of the mean first."""
    slot = tl.arange(0, 8)
    of_mean = tl.sum(tl.sum(mean_grad * apart, 1), 0)
    of_var = tl.sum(tl.sum(var_grad * var, 1), 0)
    return tl.where(slot == PLACE, of_mean, 0) + tl.where(slot == PLACE + 4, of_var, 0)


@triton.jit
def importance_shares(mean_grad, var_grad, saved_ptr, used, maps, size, RULE):
    """What maps add to the gradients of the importance, (8,).

    Means are taken relative to the map's own. That adds one number to the gradients of all weights, which makes no
    difference to weights that sum to 1, and keeps digits under a large common offset.
    """
    shares = tl.zeros((8,), mean_grad.dtype)
    at = maps_table(saved_ptr) + maps.place
    mean = tl.load(at, mask=maps.inside, other=0)
    if RULE.INSTANCE >= 0:
        var = tl.load(at + size.N * size.ROW, mask=maps.inside, other=0)
        if RULE.UNBIASED:
            var = unbias(var, size.L)
        shares += share(mean_grad, var_grad, tl.zeros_like(mean), var, RULE.INSTANCE)
    if RULE.LAYER >= 0:
        at, exists = layer_at(saved_ptr, maps, size)
        of_layer, of_layer_var = load_two(at, size.N, exists)
        shares += share(mean_grad, var_grad, tl.where(maps.inside, of_layer - mean, 0), of_layer_var, RULE.LAYER)
    if RULE.BATCH >= 0:
        of_batch, of_batch_var = batch_at(saved_ptr, used, maps, size, RULE, mean.dtype)
        shares += share(mean_grad, var_grad, tl.where(maps.inside, of_batch - mean, 0), of_batch_var, RULE.BATCH)
    if RULE.GROUP >= 0:
        at = group_at(saved_ptr, maps, size, RULE)
        of_group, of_group_var = load_two(at, size.N * (size.C // size.WIDTH), maps.inside)
        shares += share(mean_grad, var_grad, tl.where(maps.inside, of_group - mean, 0), of_group_var, RULE.GROUP)
    return shares
