"""The second launch of the backward pass: the rule's gradient in a prologue, then dx in one more look at x and dy.

The first program also takes the gradient of the importance back to the logits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.affine import scale_and_shift
from switchnorm.ops.kernels.triton.bundles import Logits, Used
from switchnorm.ops.kernels.triton.geometry import (
    block_at,
    block_offsets,
    maps_at,
    of_elements,
    own_piece,
    own_vectors,
    own_work,
    sizes,
)
from switchnorm.ops.kernels.triton.importance import write_logit_gradients
from switchnorm.ops.kernels.triton.rule import moment_gradients
from switchnorm.ops.kernels.triton.sums import gradient_tables, masked_gradient, sum_shares
from switchnorm.ops.kernels.triton.tables import load_two, maps_table


@triton.jit
def combine_piece(dy_ptr, x_ptr, dx_ptr, centre, scale, shift, b, constant, maps, piece, size, RELU, BLOCK):
    """dy * scale + (x - centre) * b + constant for a piece of maps, walking backwards."""
    offsets = block_offsets(size, BLOCK)
    begin, end, steps = own_piece(piece, size, BLOCK)
    for i in tl.range(0, steps, num_stages=BLOCK.STAGES):
        l0 = begin + (steps - 1 - i) * BLOCK.L
        start, mask = block_at(maps, l0, end, size, BLOCK)
        mask = own_vectors(mask, l0, maps, size, BLOCK)
        at = start + offsets
        dy = tl.load(dy_ptr + at, mask=mask, other=0).to(centre.dtype)
        x = tl.load(x_ptr + at, mask=mask, other=0).to(centre.dtype)
        of_x, of_dy = of_elements(centre, l0, maps, size, BLOCK), of_elements(scale, l0, maps, size, BLOCK)
        dy = masked_gradient(dy, x, None, at, mask, of_x, of_dy, of_elements(shift, l0, maps, size, BLOCK), RELU)
        slope, summand = of_elements(b, l0, maps, size, BLOCK), of_elements(constant, l0, maps, size, BLOCK)
        # Fused by hand: left to itself, Triton 3.6 keeps less in registers.
        dx = tl.fma(dy, tl.broadcast_to(of_dy, dy.shape), (x - of_x) * slope + summand)
        tl.store(dx_ptr + at, dx, mask=mask)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "PIECE", "SAMPLES", "PART", "WIDTH"])
def gradient_kernel(
    dy_ptr, x_ptr, dx_ptr, saved_ptr, scratch_ptr, used_mean_ptr,
    mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr,
    weight_ptr, bias_ptr, dmean_logits_ptr, dvar_logits_ptr,
    N, C, L, P, PIECE, SAMPLES, PART, WIDTH,
    CHOICE: tl.constexpr, RULE: tl.constexpr, RELU: tl.constexpr,
    BLOCK: tl.constexpr, POOL: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dx after `gradient_sums_kernel`; `scratch` as it left it. RELU: dy is still to be masked."""
    size = sizes(N, C, L, P, PIECE, SAMPLES, PART, WIDTH, BLOCK)
    work = own_work(size, True)
    used = Used(used_mean_ptr, None)
    plane = size.N * size.ROW
    grads = gradient_tables(scratch_ptr, size)
    blocks = tl.cdiv(work.last - work.first, BLOCK.N)
    for i in range(blocks):
        maps = maps_at(work.first + (blocks - 1 - i) * BLOCK.N, work.last, work.tile, size, BLOCK.N, BLOCK)
        at = maps_table(saved_ptr) + maps.place
        mean = tl.load(at, mask=maps.inside, other=0)
        offset, deviation = load_two(at + 2 * plane, plane, maps.inside)
        scale, shift = scale_and_shift(offset, deviation, weight_ptr, bias_ptr, maps, size)
        mean_grad, var_grad = mean, mean
        if RULE.INSTANCE >= 0:
            mean_grad, var_grad = load_two(grads.maps + maps.place, plane, maps.inside)
        of_mean, of_var = moment_gradients(
            mean, mean_grad, var_grad, saved_ptr, grads, used, maps, size, RULE, BLOCK, POOL
        )
        b, constant = of_var * 2 / size.L.to(ACC), of_mean / size.L.to(ACC)
        combine_piece(dy_ptr, x_ptr, dx_ptr, mean, scale, shift, b, constant, maps, work.piece, size, RELU, BLOCK)
    # The first condition is the compiler's, the second the program's.
    if RULE.MIXED:  # noqa: SIM102
        if tl.program_id(0) == 0:
            logits = Logits(mean_logits_ptr, var_logits_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr)
            shares = sum_shares(grads.shares, 8, size.TILES, ACC)
            write_logit_gradients(shares, dmean_logits_ptr, dvar_logits_ptr, logits, CHOICE, ACC)


@triton.jit(do_not_specialize=["N", "C", "L", "P", "PIECE", "SAMPLES"])
def combine_kernel(
    dy_ptr, a_ptr, x_ptr, centre_ptr, b_ptr, constant_ptr, dx_ptr,
    N, C, L, P, PIECE, SAMPLES,
    BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dy * a + (x - centre) * b + constant, all tables (N, C)."""
    size = sizes(N, C, L, P, PIECE, SAMPLES, N, C, BLOCK)
    work = own_work(size, True)
    for n0 in range(work.first, work.last, BLOCK.N):
        maps = maps_at(n0, work.last, work.tile, size, BLOCK.N, BLOCK)
        a = tl.load(a_ptr + maps.place, mask=maps.inside, other=0)
        centre = tl.load(centre_ptr + maps.place, mask=maps.inside, other=0)
        b = tl.load(b_ptr + maps.place, mask=maps.inside, other=0)
        constant = tl.load(constant_ptr + maps.place, mask=maps.inside, other=0)
        combine_piece(dy_ptr, x_ptr, dx_ptr, centre, a, centre, b, constant, maps, work.piece, size, False, BLOCK)
