"""Where a program's work lies in memory, on the device.

A program owns one tile of BLOCK_C channels, of a range of samples, of one piece of their maps, and walks it in
blocks (BLOCK_C, BLOCK_L). Both layouts are the same code: which of the two dimensions is contiguous decides how threads
are laid out over a block. Places of blocks are 64-bit scalars; inside a block 32 bits are enough.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: Blocks of a map on their way from memory while one is worked on.
STAGES = tl.constexpr(3)


@triton.jit
def known_multiples(C, L, CHANNELS_LAST: tl.constexpr, ALIGN: tl.constexpr):
    """C and L, the contiguous one of which the compiler now knows to be a multiple of ALIGN: it vectorises by that."""
    if CHANNELS_LAST:
        C = C // ALIGN * ALIGN
    else:
        L = L // ALIGN * ALIGN
    return C, L


@triton.jit
def own_work(N, C, P, SAMPLES, BLOCK_C: tl.constexpr, REVERSED: tl.constexpr):
    """A program's tile of channels, its first and its last but one sample, and its piece of the maps.

    Second passes walk backwards: what the first pass read last is what the L2 cache still holds.
    """
    tiles = tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    if REVERSED:
        program = tl.num_programs(0) - 1 - program
    work = program // tiles
    first = work // P * SAMPLES
    return program % tiles, first, tl.minimum(first + SAMPLES, N), work % P


@triton.jit
def own_steps(piece, L, STEPS, BLOCK_L: tl.constexpr):
    """How many blocks a piece of a map has; the last piece may have fewer than STEPS."""
    return tl.minimum(STEPS, tl.cdiv(L, BLOCK_L) - piece * STEPS)


@triton.jit
def channels_of(tile, BLOCK_C: tl.constexpr):
    """The channels of a tile, some of which may lie beyond C."""
    return tile * BLOCK_C + tl.arange(0, BLOCK_C)


@triton.jit
def block_start(n, tile, l0, C, L, CHANNELS_LAST: tl.constexpr, BLOCK_C: tl.constexpr):
    """The offset of a block's first element."""
    c0 = tile * BLOCK_C
    row = C.to(tl.int64)
    inside = l0 * row + c0 if CHANNELS_LAST else c0 * L.to(tl.int64) + l0
    return n * (row * L) + inside


@triton.jit
def block_offsets(C, L, CHANNELS_LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr):
    """The offsets of a block's elements from its first."""
    c = tl.arange(0, BLOCK_C)[:, None]
    l = tl.arange(0, BLOCK_L)[None, :]  # noqa: E741
    return c + l * C if CHANNELS_LAST else c * L + l


@triton.jit
def block_mask(tile, l0, C, L, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr):
    """Which elements of a block exist."""
    return (channels_of(tile, BLOCK_C) < C)[:, None] & (l0 + tl.arange(0, BLOCK_L) < L)[None, :]


@triton.jit
def arrived_last(counter_ptr, index, expected):
    """Whether this program is the last of those that share a counter; it then sees all they wrote.

    The barrier orders the stores of this program's threads before the release; the acquire orders the reads of the last
    program after the stores of all. The last one resets the counter, so that a replayed graph finds it as it was.
    """
    tl.debug_barrier()
    last = tl.atomic_add(counter_ptr + index, 1, sem="acq_rel", scope="gpu") == expected - 1
    if last:
        tl.store(counter_ptr + index, 0)
    return last


@triton.jit
def unbias(var, count, ACC: tl.constexpr):
    """The unbiased variance from that of a population of `count` elements; 0 stays 0 for a single element."""
    return var * (count.to(ACC) / tl.maximum(count - 1, 1).to(ACC))
