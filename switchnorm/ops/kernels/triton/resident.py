"""One launch per direction, where a program can hold all that depends on each other in registers.

Batch statistics tie samples together, layer and group statistics channels; the gradients of weight and bias tie
samples, those of the importance everything. What is not tied goes to different programs: so small tensors are one
program, but instance statistics of any number of maps are one launch too, which reads x only once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.affine import affine, scale_and_shift
from switchnorm.ops.kernels.triton.bundles import Logits, Moving, Used
from switchnorm.ops.kernels.triton.geometry import block_at, block_offsets, maps_at, sizes, unbias
from switchnorm.ops.kernels.triton.importance import write_importance, write_logit_gradients
from switchnorm.ops.kernels.triton.moments import first_of
from switchnorm.ops.kernels.triton.rule import (
    batch_at,
    importance_shares,
    mixed_gradients,
    mixed_moments,
    moment_gradients,
    publish_batch,
)
from switchnorm.ops.kernels.triton.sums import masked_gradient
from switchnorm.ops.kernels.triton.tables import batch_table, load_two, maps_table, pool, store_two


@triton.jit
def own_maps(N, C, L, BLOCK, POOL):
    """Sizes, this program's maps, the offsets of their elements (BLOCK.N, BLOCK.C, BLOCK.L), and which exist."""
    size = sizes(N, C, L, 1, L, N, N, tl.full((), POOL.HELD, tl.int32), BLOCK)
    first = tl.program_id(0) // size.TILES * BLOCK.N
    maps = maps_at(first, size.N, tl.program_id(0) % size.TILES, size, BLOCK.N, BLOCK)
    start, mask = block_at(maps, 0, size.L, size, BLOCK)
    return size, maps, start + block_offsets(size, BLOCK), mask


@triton.jit
def resident_moments(x, first, mask, size):
    """Mean and population variance of each map; in two looks, since the elements are at hand."""
    apart = tl.where(mask, x - first[:, :, None], 0)
    shift = tl.sum(apart, 2) / size.L.to(x.dtype)
    apart = tl.where(mask, apart - shift[:, :, None], 0)
    return first + shift, tl.sum(apart * apart, 2) / size.L.to(x.dtype)


@triton.jit(do_not_specialize=["N", "C", "L"])
def resident_normalize_kernel(
    x_ptr, y_ptr, residual_ptr, saved_ptr, batch_ptr, used_mean_ptr, used_var_ptr,
    mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr,
    weight_ptr, bias_ptr, moved_mean_ptr, moved_var_ptr, batches_ptr,
    share, rest, N, C, L,
    CHOICE: tl.constexpr, RULE: tl.constexpr, EPS: tl.constexpr, RELU: tl.constexpr,
    BLOCK: tl.constexpr, POOL: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """y, and `saved` as the other kernels leave it."""
    size, maps, offsets, mask = own_maps(N, C, L, BLOCK, POOL)
    x = tl.load(x_ptr + offsets, mask=mask, other=0).to(ACC)
    if RULE.MIXED:
        # Every program writes the same numbers, and reads its own.
        logits = Logits(mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr)
        write_importance(saved_ptr, logits, CHOICE, ACC)
        tl.debug_barrier()
    mean, var = resident_moments(x, first_of(x_ptr, maps, size, BLOCK, ACC), mask, size)
    plane = size.N * size.ROW
    kept = maps_table(saved_ptr) + maps.place
    store_two(kept, plane, mean, var, maps.inside)
    if RULE.UNBIASED:
        var = unbias(var, size.L)
    batch_mean, batch_var = mean, var
    if RULE.BATCH >= 0:
        used = Used(used_mean_ptr, used_var_ptr)
        if used.mean is not None:
            batch_mean, batch_var = batch_at(saved_ptr, used, maps, size, RULE, ACC)
        else:
            batch_mean, spread = pool(mean, var, maps.inside, size.N, 0)
            batch_var = spread / size.N.to(ACC)
            if RULE.FLAT and RULE.UNBIASED:
                batch_var = unbias(batch_var, size.N)
            at = batch_table(saved_ptr, size, RULE) + maps.c[None, :]
            store_two(at, size.ROW, batch_mean, batch_var, (maps.c < size.C)[None, :])
            handed_out = batch_var
            if not RULE.UNBIASED:
                handed_out = unbias(batch_var, size.N.to(tl.int64) * size.L)
            moving = Moving(batch_ptr, moved_mean_ptr, moved_var_ptr, batches_ptr, share, rest)
            publish_batch(moving, batch_mean, handed_out, maps.tile, maps.c, size)
    offset, mixed = mixed_moments(
        mean, var, batch_mean, batch_var, saved_ptr, None, maps, True, size, RULE, BLOCK, POOL
    )
    deviation = tl.rsqrt(mixed + EPS)
    store_two(kept + 2 * plane, plane, offset, deviation, maps.inside)
    scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, maps, size)
    affine(x, mean[:, :, None], scale[:, :, None], shift[:, :, None], residual_ptr, y_ptr, offsets, mask, RELU)


@triton.jit(do_not_specialize=["N", "C", "L"])
def resident_gradient_kernel(
    dy_ptr, x_ptr, y_ptr, dx_ptr, dz_ptr, saved_ptr, used_mean_ptr, used_var_ptr,
    mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr,
    weight_ptr, bias_ptr, dmean_logits_ptr, dvar_logits_ptr, dweight_ptr, dbias_ptr,
    N, C, L,
    CHOICE: tl.constexpr, RULE: tl.constexpr, RELU: tl.constexpr,
    BLOCK: tl.constexpr, POOL: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """All gradients, from `saved`."""
    size, maps, offsets, mask = own_maps(N, C, L, BLOCK, POOL)
    used = Used(used_mean_ptr, used_var_ptr)
    plane = size.N * size.ROW
    kept = maps_table(saved_ptr) + maps.place
    mean = tl.load(kept, mask=maps.inside, other=0)
    offset, deviation = load_two(kept + 2 * plane, plane, maps.inside)
    scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, maps, size)
    x = tl.load(x_ptr + offsets, mask=mask, other=0).to(ACC)
    dy = tl.load(dy_ptr + offsets, mask=mask, other=0).to(ACC)
    dy = masked_gradient(dy, x, y_ptr, offsets, mask, mean[:, :, None], scale[:, :, None], shift[:, :, None], RELU)
    if dz_ptr is not None:
        tl.store(dz_ptr + offsets, dy, mask=mask)
    apart = x - mean[:, :, None]
    total = tl.sum(dy, 2)
    product = tl.sum(tl.where(mask, dy * apart, 0), 2)
    normalized, mean_grad, var_grad = mixed_gradients(total, product, offset, deviation, scale)
    if dweight_ptr is not None:
        tl.store(dweight_ptr + maps.c, tl.sum(normalized, 0), mask=maps.c < size.C)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + maps.c, tl.sum(total, 0), mask=maps.c < size.C)
    if RULE.MIXED:
        shares = importance_shares(mean_grad, var_grad, saved_ptr, used, maps, size, RULE)
    of_mean, of_var = moment_gradients(mean, mean_grad, var_grad, saved_ptr, None, used, maps, size, RULE, BLOCK, POOL)
    b = of_var * 2 / size.L.to(ACC)
    dx = dy * scale[:, :, None] + (apart * b[:, :, None] + (of_mean / size.L.to(ACC))[:, :, None])
    tl.store(dx_ptr + offsets, dx, mask=mask)
    if RULE.MIXED:
        logits = Logits(mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr)
        write_logit_gradients(shares, dmean_logits_ptr, dvar_logits_ptr, logits, CHOICE, ACC)
