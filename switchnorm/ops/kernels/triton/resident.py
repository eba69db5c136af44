"""One launch per direction, where a program can hold all that depends on each other in registers.

Batch statistics tie samples together, layer and group statistics channels; the gradients of weight and bias tie
samples, those of the importance everything. What is not tied goes to different programs: so small tensors are one
program, but instance statistics of any number of maps are one launch too, which reads x only once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.affine import scale_and_shift, scaled
from switchnorm.ops.kernels.triton.geometry import known_multiples, unbias
from switchnorm.ops.kernels.triton.gradients import block_shares, mixed_gradients, pooled_var_gradient
from switchnorm.ops.kernels.triton.moments import first_of
from switchnorm.ops.kernels.triton.tables import batch_table, group_table, layer_table, pool, weight_at


@triton.jit
def own_maps(N, C, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr):
    """A program's samples and channels, and which of these maps exist."""
    tiles = tl.cdiv(C, BLOCK_C)
    n = tl.program_id(0) // tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tl.program_id(0) % tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    return n, c, (n < N)[:, None] & (c < C)[None, :]


@triton.jit
def own_elements(n, c, inside, C, L, CHANNELS_LAST: tl.constexpr, BLOCK_L: tl.constexpr):
    """Offsets of the elements (BLOCK_N, BLOCK_C, BLOCK_L) of maps, and which exist."""
    l = tl.arange(0, BLOCK_L)[None, None, :]  # noqa: E741
    offsets = c[None, :, None] + l * C if CHANNELS_LAST else c[None, :, None] * L + l
    return n[:, None, None] * (C.to(tl.int64) * L) + offsets, inside[:, :, None] & (l < L)


@triton.jit
def pool_groups(mean, var, inside, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Mean and population variance of each map's group, for maps (BLOCK_N, BLOCK_C)."""
    rows: tl.constexpr = mean.shape[0] * mean.shape[1] // WIDTH
    of_groups = tl.reshape(mean, (rows, WIDTH))
    exists = tl.reshape(inside, (rows, WIDTH))
    width = tl.full((), WIDTH, tl.int32)
    centre, spread = pool(of_groups, tl.reshape(var, (rows, WIDTH)), exists, width, 1, ACC)
    centre = tl.reshape(tl.broadcast_to(centre, of_groups.shape), mean.shape)
    return centre, tl.reshape(tl.broadcast_to(spread / WIDTH, of_groups.shape), mean.shape)


@triton.jit
def sum_groups(values, WIDTH: tl.constexpr):
    """The sum over each map's group, for maps (BLOCK_N, BLOCK_C)."""
    rows: tl.constexpr = values.shape[0] * values.shape[1] // WIDTH
    of_groups = tl.reshape(values, (rows, WIDTH))
    total = tl.sum(of_groups, 1, keep_dims=True)
    return tl.reshape(tl.broadcast_to(total, of_groups.shape), values.shape)


@triton.jit
def resident_moments(x, first, mask, L, ACC: tl.constexpr):
    """Mean and population variance of each map; in two looks, since the elements are at hand."""
    apart = tl.where(mask, x - first[:, :, None], 0)
    shift = tl.sum(apart, 2) / L.to(ACC)
    apart = tl.where(mask, apart - shift[:, :, None], 0)
    return first + shift, tl.sum(apart * apart, 2) / L.to(ACC)


@triton.jit(do_not_specialize=["N", "C", "L"])
def resident_normalize_kernel(
    x_ptr,
    y_ptr,
    residual_ptr,
    saved_ptr,
    batch_ptr,
    running_mean_ptr,
    running_var_ptr,
    mean_importance_ptr,
    var_importance_ptr,
    weight_ptr,
    bias_ptr,
    N,
    C,
    L,
    WIDTH: tl.constexpr,
    INSTANCE: tl.constexpr,
    LAYER: tl.constexpr,
    BATCH: tl.constexpr,
    GROUP: tl.constexpr,
    UNBIASED: tl.constexpr,
    FLAT: tl.constexpr,
    EPS: tl.constexpr,
    RELU: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    ACC: tl.constexpr,
):
    """y, and `saved` as the other kernels leave it."""
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    n, c, inside = own_maps(N, C, BLOCK_N, BLOCK_C)
    offsets, mask = own_elements(n, c, inside, C, L, CHANNELS_LAST, BLOCK_L)
    x = tl.load(x_ptr + offsets, mask=mask, other=0).to(ACC)
    mean, var = resident_moments(x, first_of(x_ptr, n, c, inside, C, L, CHANNELS_LAST, ACC), mask, L, ACC)
    row = C.to(tl.int64)
    kept = saved_ptr + n[:, None] * row + c[None, :]
    tl.store(kept, mean, mask=inside)
    tl.store(kept + N * row, var, mask=inside)
    offset = tl.zeros_like(mean)
    mixed = tl.zeros_like(mean)
    if UNBIASED:
        var = unbias(var, L, ACC)
    if INSTANCE >= 0:
        mixed += weight_at(var_importance_ptr, INSTANCE, ACC) * var
    if LAYER >= 0:
        layer_mean, layer_var = pool(mean, var, inside, C, 1, ACC)
        layer_var /= C.to(ACC)
        if FLAT and UNBIASED:
            layer_var = unbias(layer_var, C, ACC)
        at = layer_table(saved_ptr, N, C) + n[:, None]
        tl.store(at, layer_mean, mask=(n < N)[:, None])
        tl.store(at + N, layer_var, mask=(n < N)[:, None])
        offset += weight_at(mean_importance_ptr, LAYER, ACC) * (layer_mean - mean)
        mixed += weight_at(var_importance_ptr, LAYER, ACC) * layer_var
    if BATCH >= 0:
        exists = (c < C)[None, :]
        if running_mean_ptr is not None:
            batch_mean = tl.load(running_mean_ptr + c[None, :], mask=exists, other=0).to(ACC)
            batch_var = tl.load(running_var_ptr + c[None, :], mask=exists, other=0).to(ACC)
        else:
            batch_mean, batch_var = pool(mean, var, inside, N, 0, ACC)
            batch_var /= N.to(ACC)
            running_var = batch_var
            if FLAT and UNBIASED:
                batch_var = unbias(batch_var, N, ACC)
                running_var = batch_var
            if not UNBIASED:
                running_var = unbias(batch_var, N * L, ACC)
            at = batch_table(saved_ptr, N, C, WIDTH, LAYER, GROUP) + c[None, :]
            tl.store(at, batch_mean, mask=exists)
            tl.store(at + row, batch_var, mask=exists)
            tl.store(batch_ptr + c[None, :], batch_mean, mask=exists)
            tl.store(batch_ptr + row + c[None, :], running_var, mask=exists)
        offset += weight_at(mean_importance_ptr, BATCH, ACC) * (batch_mean - mean)
        mixed += weight_at(var_importance_ptr, BATCH, ACC) * batch_var
    if GROUP >= 0:
        group_mean, group_var = pool_groups(mean, var, inside, WIDTH, ACC)
        if FLAT and UNBIASED:
            group_var = unbias(group_var, tl.full((), WIDTH, tl.int32), ACC)
        groups = C // WIDTH
        at = group_table(saved_ptr, N, C, LAYER) + n[:, None] * groups + c[None, :] // WIDTH
        tl.store(at, group_mean, mask=inside & (c % WIDTH == 0)[None, :])
        tl.store(at + N * groups, group_var, mask=inside & (c % WIDTH == 0)[None, :])
        offset += weight_at(mean_importance_ptr, GROUP, ACC) * (group_mean - mean)
        mixed += weight_at(var_importance_ptr, GROUP, ACC) * group_var
    deviation = tl.rsqrt(mixed + EPS)
    tl.store(kept + 2 * N * row, offset, mask=inside)
    tl.store(kept + 3 * N * row, deviation, mask=inside)
    scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, c[None, :], C, ACC)
    y = scaled(x, mean[:, :, None], scale[:, :, None], shift[:, :, None])
    if residual_ptr is not None:
        y += tl.load(residual_ptr + offsets, mask=mask, other=0).to(ACC)
    if RELU:
        y = tl.where(y <= 0, 0, y)
    tl.store(y_ptr + offsets, y, mask=mask)


@triton.jit(do_not_specialize=["N", "C", "L"])
def resident_gradient_kernel(
    dy_ptr,
    x_ptr,
    y_ptr,
    dx_ptr,
    dz_ptr,
    saved_ptr,
    running_mean_ptr,
    running_var_ptr,
    mean_importance_ptr,
    var_importance_ptr,
    weight_ptr,
    bias_ptr,
    dmean_importance_ptr,
    dvar_importance_ptr,
    dweight_ptr,
    dbias_ptr,
    N,
    C,
    L,
    WIDTH: tl.constexpr,
    INSTANCE: tl.constexpr,
    LAYER: tl.constexpr,
    BATCH: tl.constexpr,
    GROUP: tl.constexpr,
    K: tl.constexpr,
    UNBIASED: tl.constexpr,
    FLAT: tl.constexpr,
    RELU: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    ACC: tl.constexpr,
):
    """All gradients, from `saved`."""
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    n, c, inside = own_maps(N, C, BLOCK_N, BLOCK_C)
    offsets, mask = own_elements(n, c, inside, C, L, CHANNELS_LAST, BLOCK_L)
    row = C.to(tl.int64)
    kept = saved_ptr + n[:, None] * row + c[None, :]
    mean = tl.load(kept, mask=inside, other=0)
    offset = tl.load(kept + 2 * N * row, mask=inside, other=0)
    deviation = tl.load(kept + 3 * N * row, mask=inside, other=0)
    scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, c[None, :], C, ACC)
    x = tl.load(x_ptr + offsets, mask=mask, other=0).to(ACC)
    dy = tl.load(dy_ptr + offsets, mask=mask, other=0).to(ACC)
    if RELU:
        if y_ptr is not None:
            dy = tl.where(tl.load(y_ptr + offsets, mask=mask, other=0) > 0, dy, 0)
            tl.store(dz_ptr + offsets, dy, mask=mask)
        else:
            dy = tl.where(scaled(x, mean[:, :, None], scale[:, :, None], shift[:, :, None]) > 0, dy, 0)
    apart = x - mean[:, :, None]
    total = tl.sum(dy, 2)
    product = tl.sum(tl.where(mask, dy * apart, 0), 2)
    normalized, mean_grad, var_grad = mixed_gradients(total, product, offset, deviation, scale)
    if dweight_ptr is not None:
        tl.store(dweight_ptr + c, tl.sum(normalized, 0), mask=c < C)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + c, tl.sum(total, 0), mask=c < C)
    if mean_importance_ptr is not None:
        shares = block_shares(
            tl.zeros((8,), ACC), mean_grad, var_grad, saved_ptr, running_mean_ptr, running_var_ptr, n, c, inside, N, C,
            L, N, WIDTH, INSTANCE, LAYER, BATCH, GROUP, UNBIASED, ACC,
        )  # fmt: skip
        slot = tl.arange(0, 8)
        tl.store(dmean_importance_ptr + slot, shares, mask=slot < K)
        tl.store(dvar_importance_ptr + slot - 4, shares, mask=(slot >= 4) & (slot < 4 + K))
    of_mean = tl.zeros_like(mean)
    of_var = tl.zeros_like(mean)
    if INSTANCE >= 0:
        of_mean += weight_at(mean_importance_ptr, INSTANCE, ACC) * mean_grad
        of_var += weight_at(var_importance_ptr, INSTANCE, ACC) * var_grad
    if LAYER >= 0:
        centre = tl.load(layer_table(saved_ptr, N, C) + n[:, None], mask=(n < N)[:, None], other=0)
        from_mean = weight_at(mean_importance_ptr, LAYER, ACC) * tl.sum(mean_grad, 1, keep_dims=True)
        from_var = weight_at(var_importance_ptr, LAYER, ACC) * tl.sum(var_grad, 1, keep_dims=True)
        back = pooled_var_gradient(from_var, C, FLAT and UNBIASED, ACC)
        of_mean += from_mean / C.to(ACC) + 2 * (mean - centre) * back
        of_var += back
    if BATCH >= 0 and running_mean_ptr is None:
        at = batch_table(saved_ptr, N, C, WIDTH, LAYER, GROUP) + c[None, :]
        centre = tl.load(at, mask=(c < C)[None, :], other=0)
        from_mean = weight_at(mean_importance_ptr, BATCH, ACC) * tl.sum(mean_grad, 0, keep_dims=True)
        from_var = weight_at(var_importance_ptr, BATCH, ACC) * tl.sum(var_grad, 0, keep_dims=True)
        back = pooled_var_gradient(from_var, N, FLAT and UNBIASED, ACC)
        of_mean += from_mean / N.to(ACC) + 2 * (mean - centre) * back
        of_var += back
    if GROUP >= 0:
        width = tl.full((), WIDTH, tl.int32)
        at = group_table(saved_ptr, N, C, LAYER) + n[:, None] * (C // WIDTH) + c[None, :] // WIDTH
        centre = tl.load(at, mask=inside, other=0)
        from_mean = weight_at(mean_importance_ptr, GROUP, ACC) * sum_groups(mean_grad, WIDTH)
        from_var = weight_at(var_importance_ptr, GROUP, ACC) * sum_groups(var_grad, WIDTH)
        back = pooled_var_gradient(from_var, width, FLAT and UNBIASED, ACC)
        of_mean += from_mean / WIDTH + 2 * (mean - centre) * back
        of_var += back
    if UNBIASED:
        of_var = unbias(of_var, L, ACC)
    b = of_var * 2 / L.to(ACC)
    dx = dy * scale[:, :, None] + (apart * b[:, :, None] + (of_mean / L.to(ACC))[:, :, None])
    tl.store(dx_ptr + offsets, dx, mask=mask)
