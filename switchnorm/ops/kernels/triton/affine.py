"""The second launch of the forward pass: the rule, scale and shift in a prologue, then y in one read and one write."""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.geometry import (
    STAGES,
    block_mask,
    block_offsets,
    block_start,
    channels_of,
    known_multiples,
    own_steps,
    own_work,
    unbias,
)
from switchnorm.ops.kernels.triton.tables import (
    batch_table,
    group_table,
    layer_table,
    pool_group,
    pool_tiles,
    weight_at,
)


@triton.jit
def scaled(x, centre, scale, shift):
    """(x - centre) * scale + shift, the same bits in every kernel: ReLU's mask is recomputed from it."""
    return tl.fma(x - centre, tl.broadcast_to(scale, x.shape), tl.broadcast_to(shift, x.shape))


@triton.jit
def scale_and_shift(offset, deviation, weight_ptr, bias_ptr, c, C, ACC: tl.constexpr):
    """What `scaled` takes about a map's own mean, from the mixed mean's offset and the inverse mixed deviation."""
    scale = deviation
    if weight_ptr is not None:
        scale = deviation * tl.load(weight_ptr + c, mask=c < C, other=0).to(ACC)
    bias = tl.zeros_like(scale)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + c, mask=c < C, other=0).to(ACC)
    return scale, tl.fma(-offset, scale, bias)


@triton.jit
def mixed_moments(
    saved_ptr,
    scratch_ptr,
    running_mean_ptr,
    running_var_ptr,
    mean_importance_ptr,
    var_importance_ptr,
    n,
    tile,
    keeps,
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
    """The rule for one sample's tile: own mean, the mixed mean's offset from it, and the mixed variance.

    Means enter relative to the map's own, so that small differences keep their digits under a large common offset.
    keeps: whether this program writes the statistics that the backward pass needs and no one has written yet.
    """
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    tiles = tl.cdiv(C, BLOCK_C)
    pooled_ptr = scratch_ptr + 2 * N * row * P
    mean = tl.load(saved_ptr + n * row + c, mask=c < C, other=0)
    offset = tl.zeros_like(mean)
    mixed_var = tl.zeros_like(mean)
    if INSTANCE >= 0:
        var = tl.load(saved_ptr + (N + n) * row + c, mask=c < C, other=0)
        if UNBIASED:
            var = unbias(var, L, ACC)
        mixed_var += weight_at(var_importance_ptr, INSTANCE, ACC) * var
    if LAYER >= 0:
        layer_mean, layer_var = pool_tiles(pooled_ptr, n, 0, tiles, N, C, BLOCK_C, BLOCK_T, ACC)
        if FLAT and UNBIASED:
            layer_var = unbias(layer_var, C, ACC)
        at = layer_table(saved_ptr, N, C) + n
        if keeps and tile == 0:
            tl.store(at, layer_mean)
            tl.store(at + N, layer_var)
        offset += weight_at(mean_importance_ptr, LAYER, ACC) * (layer_mean - mean)
        mixed_var += weight_at(var_importance_ptr, LAYER, ACC) * layer_var
    if BATCH >= 0:
        if running_mean_ptr is not None:
            batch_mean = tl.load(running_mean_ptr + c, mask=c < C, other=0).to(ACC)
            batch_var = tl.load(running_var_ptr + c, mask=c < C, other=0).to(ACC)
        else:
            at = batch_table(saved_ptr, N, C, WIDTH, LAYER, GROUP) + n // PART * row + c
            batch_mean = tl.load(at, mask=c < C, other=0)
            batch_var = tl.load(at + N // PART * row, mask=c < C, other=0)
        offset += weight_at(mean_importance_ptr, BATCH, ACC) * (batch_mean - mean)
        mixed_var += weight_at(var_importance_ptr, BATCH, ACC) * batch_var
    if GROUP >= 0:
        if BLOCK_W == 0:
            count = WIDTH // BLOCK_C
            group_mean, group_var = pool_tiles(pooled_ptr, n, tile // count * count, count, N, C, BLOCK_C, BLOCK_T, ACC)
            group_mean += tl.zeros_like(mean)
            group_var += tl.zeros_like(mean)
        else:
            factor = tl.full((), 1, ACC)
            if UNBIASED:
                factor = unbias(factor, L, ACC)
            group_mean, group_var = pool_group(saved_ptr, n, c, N, C, factor, WIDTH, BLOCK_C, BLOCK_W, ACC)
        if FLAT and UNBIASED:
            group_var = unbias(group_var, WIDTH, ACC)
        groups = C // WIDTH
        at = group_table(saved_ptr, N, C, LAYER) + n * groups + c // WIDTH
        if keeps:
            tl.store(at, group_mean, mask=(c < C) & (c % WIDTH == 0))
            tl.store(at + N * groups, group_var, mask=(c < C) & (c % WIDTH == 0))
        offset += weight_at(mean_importance_ptr, GROUP, ACC) * (group_mean - mean)
        mixed_var += weight_at(var_importance_ptr, GROUP, ACC) * group_var
    return mean, offset, mixed_var


@triton.jit
def affine_piece(
    x_ptr,
    y_ptr,
    residual_ptr,
    centre,
    scale,
    shift,
    n,
    tile,
    piece,
    C,
    L,
    STEPS,
    RELU: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    ACC: tl.constexpr,
):
    """y of one piece of the maps of a tile, walking backwards."""
    offsets = block_offsets(C, L, CHANNELS_LAST, BLOCK_C, BLOCK_L)
    steps = own_steps(piece, L, STEPS, BLOCK_L)
    for i in tl.range(0, steps, num_stages=STAGES):
        l0 = (piece * STEPS + steps - 1 - i) * BLOCK_L
        mask = block_mask(tile, l0, C, L, BLOCK_C, BLOCK_L)
        at = block_start(n, tile, l0, C, L, CHANNELS_LAST, BLOCK_C) + offsets
        y = scaled(tl.load(x_ptr + at, mask=mask, other=0).to(ACC), centre[:, None], scale[:, None], shift[:, None])
        if residual_ptr is not None:
            y += tl.load(residual_ptr + at, mask=mask, other=0).to(ACC)
        if RELU:
            # Not tl.maximum, which turns NaN into 0.
            y = tl.where(y <= 0, 0, y)
        tl.store(y_ptr + at, y, mask=mask)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "STEPS", "SAMPLES", "PART", "WIDTH"])
def normalize_kernel(
    x_ptr,
    y_ptr,
    residual_ptr,
    saved_ptr,
    scratch_ptr,
    running_mean_ptr,
    running_var_ptr,
    mean_importance_ptr,
    var_importance_ptr,
    weight_ptr,
    bias_ptr,
    N,
    C,
    L,
    P,
    STEPS,
    SAMPLES,
    PART,
    WIDTH,
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
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr,
    ACC: tl.constexpr,
):
    """y after `moments_kernel`; `saved` and `scratch` as it left them."""
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    tile, first, last, piece = own_work(N, C, P, SAMPLES, BLOCK_C, True)
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    for i in range(last - first):
        n = last - 1 - i
        mean, offset, var = mixed_moments(
            saved_ptr, scratch_ptr, running_mean_ptr, running_var_ptr, mean_importance_ptr, var_importance_ptr, n, tile,
            piece == 0, N, C, L, P, PART, WIDTH, INSTANCE, LAYER, BATCH, GROUP, UNBIASED, FLAT, BLOCK_C, BLOCK_T,
            BLOCK_W, ACC,
        )  # fmt: skip
        deviation = tl.rsqrt(var + EPS)
        if piece == 0:
            tl.store(saved_ptr + (2 * N + n) * row + c, offset, mask=c < C)
            tl.store(saved_ptr + (3 * N + n) * row + c, deviation, mask=c < C)
        scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, c, C, ACC)
        affine_piece(
            x_ptr, y_ptr, residual_ptr, mean, scale, shift, n, tile, piece, C, L, STEPS, RELU, CHANNELS_LAST, BLOCK_C,
            BLOCK_L, ACC,
        )  # fmt: skip


@triton.jit(do_not_specialize=["N", "C", "L", "P", "STEPS", "SAMPLES"])
def affine_kernel(
    x_ptr,
    y_ptr,
    centre_ptr,
    scale_ptr,
    shift_ptr,
    N,
    C,
    L,
    P,
    STEPS,
    SAMPLES,
    CHANNELS_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    ACC: tl.constexpr,
):
    """(x - centre) * scale + shift, centre and scale (N, C), shift (C,) or None."""
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    tile, first, last, piece = own_work(N, C, P, SAMPLES, BLOCK_C, True)
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    for i in range(last - first):
        n = last - 1 - i
        centre = tl.load(centre_ptr + n * row + c, mask=c < C, other=0)
        scale = tl.load(scale_ptr + n * row + c, mask=c < C, other=0)
        shift = tl.zeros_like(scale)
        if shift_ptr is not None:
            shift = tl.load(shift_ptr + c, mask=c < C, other=0)
        affine_piece(
            x_ptr, y_ptr, None, centre, scale, shift, n, tile, piece, C, L, STEPS, False, CHANNELS_LAST, BLOCK_C,
            BLOCK_L, ACC,
        )  # fmt: skip
