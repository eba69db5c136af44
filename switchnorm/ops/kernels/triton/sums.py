"""The first launch of the backward pass: sums of dy and dy * (x - mean) over every map, and what follows from them.

As in the forward pass, the last program of a tile of channels merges the slots. It also has all samples of its channels
in hand, hence writes the gradients of weight and bias, and the tile's share of those of the importance.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.affine import scale_and_shift, scaled
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
)
from switchnorm.ops.kernels.triton.gradients import finish_gradients, merged_sums


@triton.jit
def masked_gradient(dy, x, y_ptr, at, mask, centre, scale, shift, RELU: tl.constexpr):
    """dy where ReLU let y pass: by y itself where a residual went into it, else by what the forward pass computed."""
    if RELU:
        if y_ptr is not None:
            passes = tl.load(y_ptr + at, mask=mask, other=0) > 0
        else:
            passes = scaled(x, centre[:, None], scale[:, None], shift[:, None]) > 0
        dy = tl.where(passes, dy, 0)
    return dy


@triton.jit
def piece_sums(
    dy_ptr,
    x_ptr,
    y_ptr,
    dz_ptr,
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
    """The sums over one piece of each map of a tile; dz, the gradient behind ReLU, is written where it has a place."""
    offsets = block_offsets(C, L, CHANNELS_LAST, BLOCK_C, BLOCK_L)
    total = tl.zeros((BLOCK_C, BLOCK_L), ACC)
    product = tl.zeros((BLOCK_C, BLOCK_L), ACC)
    for i in tl.range(0, own_steps(piece, L, STEPS, BLOCK_L), num_stages=STAGES):
        l0 = (piece * STEPS + i) * BLOCK_L
        mask = block_mask(tile, l0, C, L, BLOCK_C, BLOCK_L)
        at = block_start(n, tile, l0, C, L, CHANNELS_LAST, BLOCK_C) + offsets
        dy = tl.load(dy_ptr + at, mask=mask, other=0).to(ACC)
        x = tl.load(x_ptr + at, mask=mask, other=0).to(ACC)
        dy = masked_gradient(dy, x, y_ptr, at, mask, centre, scale, shift, RELU)
        if dz_ptr is not None:
            tl.store(dz_ptr + at, dy, mask=mask)
        total += dy
        product += tl.where(mask, dy * (x - centre[:, None]), 0)
    return tl.sum(total, 1), tl.sum(product, 1)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "STEPS", "SAMPLES"])
def sums_kernel(
    dy_ptr,
    x_ptr,
    centre_ptr,
    sums_ptr,
    scratch_ptr,
    counter_ptr,
    N,
    C,
    L,
    P,
    STEPS,
    SAMPLES,
    COUNTED: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
):
    """Sums (2, N, C) of dy and of dy * (x - centre), centre (N, C)."""
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    tile, first, last, piece = own_work(N, C, P, SAMPLES, BLOCK_C, False)
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    for n in range(first, last):
        centre = tl.load(centre_ptr + n * row + c, mask=c < C, other=0)
        total, product = piece_sums(
            dy_ptr, x_ptr, None, None, centre, centre, centre, n, tile, piece, C, L, STEPS, False, CHANNELS_LAST,
            BLOCK_C, BLOCK_L, ACC,
        )  # fmt: skip
        at = scratch_ptr + (n * row * P + piece * row) + c
        tl.store(at, total, mask=c < C)
        tl.store(at + N * row * P, product, mask=c < C)
    if COUNTED:
        finishes = arrived_last(counter_ptr, first * tl.cdiv(C, BLOCK_C) + tile, P)
    else:
        tl.debug_barrier()
        finishes = True
    if finishes:
        finish_sums(sums_ptr, scratch_ptr, c, first, last, N, C, P, BLOCK_N, BLOCK_P)


@triton.jit
def finish_sums(sums_ptr, slots_ptr, c, first, last, N, C, P, BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr):
    """Merge the slots of a tile, samples `first` to `last`."""
    row = C.to(tl.int64)
    for n0 in range(first, last, BLOCK_N):
        n = n0 + tl.arange(0, BLOCK_N)
        inside = (n < last)[:, None] & (c < C)[None, :]
        total, product = merged_sums(slots_ptr, n, c, inside, N, C, P, BLOCK_P)
        at = sums_ptr + n[:, None] * row + c[None, :]
        tl.store(at, total, mask=inside)
        tl.store(at + N * row, product, mask=inside)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "STEPS", "SAMPLES", "PART", "WIDTH"])
def gradient_sums_kernel(
    dy_ptr,
    x_ptr,
    y_ptr,
    dz_ptr,
    saved_ptr,
    scratch_ptr,
    counter_ptr,
    running_mean_ptr,
    running_var_ptr,
    weight_ptr,
    bias_ptr,
    dweight_ptr,
    dbias_ptr,
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
    MIXED: tl.constexpr,
    UNBIASED: tl.constexpr,
    RELU: tl.constexpr,
    COUNTED: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradients of the mixed moments, pooled as the rule needs them, and of weight and bias.

    scratch: slots (2, N, P, C), then the tables of `gradient_tables`.
    """
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    tile, first, last, piece = own_work(N, C, P, SAMPLES, BLOCK_C, False)
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    for n in range(first, last):
        centre = tl.load(saved_ptr + n * row + c, mask=c < C, other=0)
        offset = tl.load(saved_ptr + (2 * N + n) * row + c, mask=c < C, other=0)
        deviation = tl.load(saved_ptr + (3 * N + n) * row + c, mask=c < C, other=0)
        scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, c, C, ACC)
        total, product = piece_sums(
            dy_ptr, x_ptr, y_ptr, dz_ptr, centre, scale, shift, n, tile, piece, C, L, STEPS, RELU, CHANNELS_LAST,
            BLOCK_C, BLOCK_L, ACC,
        )  # fmt: skip
        at = scratch_ptr + (n * row * P + piece * row) + c
        tl.store(at, total, mask=c < C)
        tl.store(at + N * row * P, product, mask=c < C)
    if COUNTED:
        finishes = arrived_last(counter_ptr, tile, tl.cdiv(N, SAMPLES) * P)
    else:
        tl.debug_barrier()
        finishes = True
    if finishes:
        finish_gradients(
            saved_ptr, scratch_ptr, running_mean_ptr, running_var_ptr, weight_ptr, dweight_ptr, dbias_ptr, tile, N, C,
            L, P, PART, WIDTH, INSTANCE, LAYER, BATCH, GROUP, MIXED, UNBIASED, BLOCK_C, BLOCK_N, BLOCK_P, ACC,
        )  # fmt: skip
