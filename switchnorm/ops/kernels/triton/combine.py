"""The second launch of the backward pass: the rule's gradient in a prologue, then dx in one more look at x and dy."""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.affine import scale_and_shift
from switchnorm.ops.kernels.triton.geometry import (
    STAGES,
    block_mask,
    block_offsets,
    block_start,
    channels_of,
    known_multiples,
    own_steps,
    own_work,
)
from switchnorm.ops.kernels.triton.gradients import gradient_tables, moment_gradients, write_importance_gradients
from switchnorm.ops.kernels.triton.sums import masked_gradient


@triton.jit
def combine_piece(
    dy_ptr,
    x_ptr,
    dx_ptr,
    centre,
    scale,
    shift,
    b,
    constant,
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
    """dy * scale + (x - centre) * b + constant for one piece of the maps of a tile, walking backwards."""
    offsets = block_offsets(C, L, CHANNELS_LAST, BLOCK_C, BLOCK_L)
    steps = own_steps(piece, L, STEPS, BLOCK_L)
    for i in tl.range(0, steps, num_stages=STAGES):
        l0 = (piece * STEPS + steps - 1 - i) * BLOCK_L
        mask = block_mask(tile, l0, C, L, BLOCK_C, BLOCK_L)
        at = block_start(n, tile, l0, C, L, CHANNELS_LAST, BLOCK_C) + offsets
        dy = tl.load(dy_ptr + at, mask=mask, other=0).to(ACC)
        x = tl.load(x_ptr + at, mask=mask, other=0).to(ACC)
        dy = masked_gradient(dy, x, None, at, mask, centre, scale, shift, RELU)
        dx = dy * scale[:, None] + ((x - centre[:, None]) * b[:, None] + constant[:, None])
        tl.store(dx_ptr + at, dx, mask=mask)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "STEPS", "SAMPLES", "PART", "WIDTH"])
def gradient_kernel(
    dy_ptr,
    x_ptr,
    dx_ptr,
    saved_ptr,
    scratch_ptr,
    running_mean_ptr,
    mean_importance_ptr,
    var_importance_ptr,
    weight_ptr,
    bias_ptr,
    dmean_importance_ptr,
    dvar_importance_ptr,
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
    K: tl.constexpr,
    UNBIASED: tl.constexpr,
    FLAT: tl.constexpr,
    RELU: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr,
    ACC: tl.constexpr,
):
    """dx after `gradient_sums_kernel`; `scratch` as it left it. RELU: dy is still to be masked."""
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    tile, first, last, piece = own_work(N, C, P, SAMPLES, BLOCK_C, True)
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    for i in range(last - first):
        n = last - 1 - i
        mean = tl.load(saved_ptr + n * row + c, mask=c < C, other=0)
        offset = tl.load(saved_ptr + (2 * N + n) * row + c, mask=c < C, other=0)
        deviation = tl.load(saved_ptr + (3 * N + n) * row + c, mask=c < C, other=0)
        scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, c, C, ACC)
        of_mean, of_var = moment_gradients(
            saved_ptr, scratch_ptr, running_mean_ptr, mean_importance_ptr, var_importance_ptr, mean, n, tile, N, C, L,
            P, PART, WIDTH, INSTANCE, LAYER, BATCH, GROUP, UNBIASED, FLAT, BLOCK_C, BLOCK_T, BLOCK_W, ACC,
        )  # fmt: skip
        combine_piece(
            dy_ptr, x_ptr, dx_ptr, mean, scale, shift, of_var * 2 / L.to(ACC), of_mean / L.to(ACC), n, tile, piece, C,
            L, STEPS, RELU, CHANNELS_LAST, BLOCK_C, BLOCK_L, ACC,
        )  # fmt: skip
    # The first condition is the compiler's, the second the program's.
    if mean_importance_ptr is not None:  # noqa: SIM102
        if tl.program_id(0) == 0:
            _, _, shares_ptr, _ = gradient_tables(scratch_ptr, N, C, P, BLOCK_C)
            tiles = tl.cdiv(C, BLOCK_C)
            write_importance_gradients(shares_ptr, dmean_importance_ptr, dvar_importance_ptr, K, tiles, BLOCK_T)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "STEPS", "SAMPLES"])
def combine_kernel(
    dy_ptr,
    a_ptr,
    x_ptr,
    centre_ptr,
    b_ptr,
    constant_ptr,
    dx_ptr,
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
    """dy * a + (x - centre) * b + constant, all tables (N, C)."""
    C, L = known_multiples(C, L, CHANNELS_LAST, ALIGN)
    tile, first, last, piece = own_work(N, C, P, SAMPLES, BLOCK_C, True)
    c = channels_of(tile, BLOCK_C)
    row = C.to(tl.int64)
    for i in range(last - first):
        n = last - 1 - i
        at = n * row + c
        a = tl.load(a_ptr + at, mask=c < C, other=0)
        centre = tl.load(centre_ptr + at, mask=c < C, other=0)
        b = tl.load(b_ptr + at, mask=c < C, other=0)
        constant = tl.load(constant_ptr + at, mask=c < C, other=0)
        combine_piece(
            dy_ptr, x_ptr, dx_ptr, centre, a, centre, b, constant, n, tile, piece, C, L, STEPS, False, CHANNELS_LAST,
            BLOCK_C, BLOCK_L, ACC,
        )  # fmt: skip
