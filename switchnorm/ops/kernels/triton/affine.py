"""The second launch of the forward pass: the rule, scale and shift in a prologue, then y in one read and one write."""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.bundles import Used
from switchnorm.ops.kernels.triton.geometry import (
    block_at,
    block_offsets,
    maps_at,
    of_elements,
    own_piece,
    own_vectors,
    own_work,
    sizes,
    unbias,
)
from switchnorm.ops.kernels.triton.rule import batch_at, mixed_moments
from switchnorm.ops.kernels.triton.tables import maps_table, store_two


@triton.jit
def scaled(x, centre, scale, shift):
    """(x - centre) * scale + shift, the same bits in every kernel: ReLU's mask is recomputed from it."""
    return tl.fma(x - centre, tl.broadcast_to(scale, x.shape), tl.broadcast_to(shift, x.shape))


@triton.jit
def scale_of(deviation, weight_ptr, maps, size):
    """The inverse mixed deviation times the weight."""
    scale = deviation
    if weight_ptr is not None:
        c = maps.c[None, :]
        scale = deviation * tl.load(weight_ptr + c, mask=c < size.C, other=0).to(scale.dtype)
    return scale


@triton.jit
def scale_and_shift(offset, deviation, weight_ptr, bias_ptr, maps, size):
    """What `scaled` takes about a map's own mean, from the mixed mean's offset and the inverse mixed deviation."""
    scale = scale_of(deviation, weight_ptr, maps, size)
    bias = tl.zeros_like(scale)
    if bias_ptr is not None:
        c = maps.c[None, :]
        bias = bias + tl.load(bias_ptr + c, mask=c < size.C, other=0).to(scale.dtype)
    return scale, tl.fma(-offset, scale, bias)


@triton.jit
def affine(x, centre, scale, shift, residual_ptr, y_ptr, at, mask, RELU):
    """Write y, which becomes of elements x (BLOCK.N, BLOCK.C, BLOCK.L)."""
    y = scaled(x, centre, scale, shift)
    if residual_ptr is not None:
        y += tl.load(residual_ptr + at, mask=mask, other=0).to(y.dtype)
    if RELU:
        # Not tl.maximum, which turns NaN into 0.
        y = tl.where(y <= 0, 0, y)
    tl.store(y_ptr + at, y, mask=mask)


@triton.jit
def affine_piece(x_ptr, y_ptr, residual_ptr, centre, scale, shift, maps, piece, size, RELU, BLOCK):
    """y of a piece of maps, walking backwards."""
    offsets = block_offsets(size, BLOCK)
    begin, end, steps = own_piece(piece, size, BLOCK)
    for i in tl.range(0, steps, num_stages=BLOCK.STAGES):
        l0 = begin + (steps - 1 - i) * BLOCK.L
        start, mask = block_at(maps, l0, end, size, BLOCK)
        mask = own_vectors(mask, l0, maps, size, BLOCK)
        x = tl.load(x_ptr + start + offsets, mask=mask, other=0).to(centre.dtype)
        of_x = of_elements(centre, l0, maps, size, BLOCK)
        factor, summand = of_elements(scale, l0, maps, size, BLOCK), of_elements(shift, l0, maps, size, BLOCK)
        affine(x, of_x, factor, summand, residual_ptr, y_ptr, start + offsets, mask, RELU)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "PIECE", "SAMPLES", "PART", "WIDTH"])
def normalize_kernel(
    x_ptr, y_ptr, residual_ptr, saved_ptr, scratch_ptr, used_mean_ptr, used_var_ptr, weight_ptr, bias_ptr,
    N, C, L, P, PIECE, SAMPLES, PART, WIDTH,
    RULE: tl.constexpr, FIXED: tl.constexpr, EPS: tl.constexpr, RELU: tl.constexpr,
    BLOCK: tl.constexpr, POOL: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """y after `moments_kernel`; `saved` and `scratch` as it left them. FIXED: without it, by given statistics alone."""
    size = sizes(N, C, L, P, PIECE, SAMPLES, PART, WIDTH, BLOCK)
    work = own_work(size, True)
    used = Used(used_mean_ptr, used_var_ptr)
    plane = size.N * size.ROW
    pooled_ptr = scratch_ptr + 2 * plane * size.P
    blocks = tl.cdiv(work.last - work.first, BLOCK.N)
    # The next samples' short maps are on their way while one is worked on. More stages cost registers, which blocks of
    # half the size, those of shifted rows, leave.
    ahead: tl.constexpr = BLOCK.STAGES if BLOCK.SHIFTED else 2
    for i in tl.range(0, blocks, num_stages=ahead if BLOCK.WHOLE else 1):
        maps = maps_at(work.first + (blocks - 1 - i) * BLOCK.N, work.last, work.tile, size, BLOCK.N, BLOCK)
        at = maps_table(saved_ptr) + maps.place
        if FIXED:
            # No map was looked at: the given mean stands for its own, in the backward pass too.
            mean, _ = batch_at(saved_ptr, used, maps, size, RULE, ACC)
            mean += tl.zeros(maps.inside.shape, ACC)
            if work.piece == 0:
                tl.store(at, mean, mask=maps.inside)
        else:
            mean = tl.load(at, mask=maps.inside, other=0)
        var = mean
        if RULE.INSTANCE >= 0:
            var = tl.load(at + plane, mask=maps.inside, other=0)
            if RULE.UNBIASED:
                var = unbias(var, size.L)
        batch_mean, batch_var = mean, mean
        if RULE.BATCH >= 0:
            batch_mean, batch_var = batch_at(saved_ptr, used, maps, size, RULE, ACC)
        offset, mixed = mixed_moments(
            mean, var, batch_mean, batch_var, saved_ptr, pooled_ptr, maps, work.piece == 0, size, RULE, BLOCK, POOL
        )
        deviation = tl.rsqrt(mixed + EPS)
        if work.piece == 0:
            store_two(at + 2 * plane, plane, offset, deviation, maps.inside)
        scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, maps, size)
        affine_piece(x_ptr, y_ptr, residual_ptr, mean, scale, shift, maps, work.piece, size, RELU, BLOCK)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "PIECE", "SAMPLES"])
def affine_kernel(
    x_ptr, y_ptr, centre_ptr, scale_ptr, shift_ptr,
    N, C, L, P, PIECE, SAMPLES,
    BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """(x - centre) * scale + shift, centre and scale (N, C), shift (C,) or None."""
    size = sizes(N, C, L, P, PIECE, SAMPLES, N, C, BLOCK)
    work = own_work(size, True)
    for n0 in tl.range(work.first, work.last, BLOCK.N, num_stages=BLOCK.STAGES if BLOCK.WHOLE else 1):
        maps = maps_at(n0, work.last, work.tile, size, BLOCK.N, BLOCK)
        centre = tl.load(centre_ptr + maps.place, mask=maps.inside, other=0)
        scale = tl.load(scale_ptr + maps.place, mask=maps.inside, other=0)
        shift = tl.zeros_like(scale)
        if shift_ptr is not None:
            shift += tl.load(shift_ptr + maps.c, mask=maps.c < size.C, other=0)[None, :]
        affine_piece(x_ptr, y_ptr, None, centre, scale, shift, maps, work.piece, size, False, BLOCK)
