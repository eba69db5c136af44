"""Where a program's work lies in memory, on the device.

A program owns one tile of channels (`Work`), of a range of samples, of one piece of their maps, and walks it in blocks
(BLOCK.N, BLOCK.C, BLOCK.L): several samples at once where maps are short, so that enough of them is on its way from
memory. Both layouts are the same code: which of the dimensions is contiguous decides how threads are laid out over a
block. Places of blocks are 64-bit scalars; inside a sample's block 32 bits are enough.

Contiguous maps whose size is no multiple of anything, such as 7 x 7, lie one after another across the vectors of ALIGN
elements (16 bytes) that memory is to be read and written in. A block that is SHIFTED has a row for each of its maps
that begins with the vector of the map's first element: a map's elements come after those of the map before that are in
its first vector, and before those of the next map that are in its last one. Only elements of the map itself enter its
sums (`own_elements`); what is written are the vectors that begin in it (`own_vectors`), their last elements by the
numbers of the next map (`of_elements`). Tiles of ALIGN channels and samples of ALIGN maps begin with a vector.

In all files: what is in capitals is constant, but for what is in `Sizes`, and ACC is the type that is accumulated in.
"""

from __future__ import annotations

import triton
import triton.language as tl

from switchnorm.ops.kernels.triton.bundles import Maps, Sizes, Work


@triton.jit
def sizes(N, C, L, P, PIECE, SAMPLES, PART, WIDTH, BLOCK):
    """All `Sizes`, in what the compiler knows for multiples of ALIGN: it vectorises by that."""
    if BLOCK.CHANNELS_LAST:
        C = multiple(C, BLOCK)
    else:
        PIECE = multiple(PIECE, BLOCK)
        if not BLOCK.SHIFTED:
            L = multiple(L, BLOCK)
    row = C.to(tl.int64)
    return Sizes(N, C, L, P, PIECE, SAMPLES, PART, WIDTH, row, multiple(row * L, BLOCK), tl.cdiv(C, BLOCK.C))


@triton.jit
def multiple(count, BLOCK):
    """The largest multiple of ALIGN up to `count`."""
    return count // BLOCK.ALIGN * BLOCK.ALIGN


@triton.jit
def shift_of(c, size, BLOCK):
    """How many elements of maps before lie in the vector of the first element of channels c."""
    return (c % BLOCK.ALIGN) * (size.L % BLOCK.ALIGN) % BLOCK.ALIGN if BLOCK.SHIFTED else 0


@triton.jit
def own_work(size, REVERSED):
    """A program's work.

    Second passes walk backwards: what the first pass read last is what the L2 cache still holds.
    """
    program = tl.program_id(0)
    if REVERSED:
        program = tl.num_programs(0) - 1 - program
    work = program // size.TILES
    first = work // size.P * size.SAMPLES
    return Work(program % size.TILES, first, tl.minimum(first + size.SAMPLES, size.N), work % size.P)


@triton.jit
def own_piece(piece, size, BLOCK):
    """Where a piece of a map begins and ends, the last one maybe beyond the map, and how many blocks it has."""
    begin = piece * size.PIECE
    row = size.L + BLOCK.ALIGN - 1 if BLOCK.SHIFTED else size.L
    steps = 1 if BLOCK.WHOLE else tl.cdiv(tl.minimum(size.PIECE, row - begin), BLOCK.L)
    return begin, begin + size.PIECE, steps


@triton.jit
def elements_in(piece, c, size, BLOCK):
    """How many elements of the maps of channels c a piece of them has."""
    shift = shift_of(c, size, BLOCK)
    begin = piece * size.PIECE
    return tl.maximum(tl.minimum(begin + size.PIECE, size.L + shift) - tl.maximum(begin, shift), 0)


@triton.jit
def maps_at(first, last, tile, size, COUNT, BLOCK):
    """`Maps` (COUNT, BLOCK.C) from sample `first` on."""
    n = first + tl.arange(0, COUNT)
    c = tile * BLOCK.C + tl.arange(0, BLOCK.C)
    inside = (n < last)[:, None] & (c < size.C)[None, :]
    return Maps(n, c, inside, n[:, None] * size.ROW + c[None, :], tile, first, last)


@triton.jit
def block_offsets(size, BLOCK):
    """The offsets of a block's elements from its first."""
    c = tl.arange(0, BLOCK.C)[None, :, None]
    l = tl.arange(0, BLOCK.L)[None, None, :]  # noqa: E741
    offsets = c + l * size.C if BLOCK.CHANNELS_LAST else multiple(c * size.L, BLOCK) + l
    if BLOCK.N > 1:
        offsets = tl.arange(0, BLOCK.N)[:, None, None] * size.SAMPLE + offsets
    return offsets


@triton.jit
def block_at(maps, l0, end, size, BLOCK):
    """The offset of a block's first element, and which of its elements exist and lie before the end of the piece."""
    c0 = maps.tile * BLOCK.C
    start = maps.first * size.SAMPLE
    start += l0 * size.ROW + c0 if BLOCK.CHANNELS_LAST else multiple(c0 * size.L.to(tl.int64), BLOCK) + l0
    l = l0 + tl.arange(0, BLOCK.L)  # noqa: E741
    c = c0 + tl.arange(0, BLOCK.C)
    # Not the smaller of both ends, of which the compiler does not know what it is a multiple of.
    if BLOCK.SHIFTED:
        row = multiple(shift_of(c, size, BLOCK) + (size.L + BLOCK.ALIGN - 1), BLOCK)[None, :, None]
        mask = (c < size.C)[None, :, None] & (l[None, None, :] < row) & (l < end)[None, None, :]
    else:
        mask = (c < size.C)[None, :, None] & ((l < size.L) & (l < end))[None, None, :]
    if BLOCK.N > 1:
        mask = mask & (maps.first + tl.arange(0, BLOCK.N) < maps.last)[:, None, None]
    return start, mask


@triton.jit
def own_elements(mask, l0, maps, size, BLOCK):
    """Of the elements of a block that exist, those of the map of their row."""
    if BLOCK.SHIFTED:
        l = l0 + tl.arange(0, BLOCK.L)[None, None, :] - shift_of(maps.c, size, BLOCK)[None, :, None]  # noqa: E741
        # A single comparison: of negative numbers, unsigned ones are large.
        mask = mask & (l.to(tl.uint32) < size.L.to(tl.uint32))
    return mask


@triton.jit
def own_vectors(mask, l0, maps, size, BLOCK):
    """Of the elements of a block that exist, those in vectors that begin in the map of their row."""
    if BLOCK.SHIFTED:
        begin = multiple(shift_of(maps.c, size, BLOCK) + (BLOCK.ALIGN - 1), BLOCK)[None, :, None]
        mask = mask & (l0 + tl.arange(0, BLOCK.L)[None, None, :] >= begin)
    return mask


@triton.jit
def of_elements(values, l0, maps, size, BLOCK):
    """The numbers of the maps of `own_vectors`, given those of each map (N, C)."""
    found = values[:, :, None]
    if BLOCK.SHIFTED:
        after = tl.minimum(tl.arange(0, BLOCK.C) + 1, BLOCK.C - 1)[None, :]
        following = tl.gather(values, tl.broadcast_to(after, values.shape), 1)[:, :, None]
        l = l0 + tl.arange(0, BLOCK.L)[None, None, :] - shift_of(maps.c, size, BLOCK)[None, :, None]  # noqa: E741
        found = tl.where(l < size.L, found, following)
    return found


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
def last_of_maps(counter_ptr, work, size, MERGE):
    """Whether this program is the last of those with pieces of the same maps; it then sees all they wrote."""
    last = True
    if MERGE.P > 1:
        last = arrived_last(counter_ptr, work.first // size.SAMPLES * size.TILES + work.tile, size.P)
    else:
        tl.debug_barrier()
    return last


@triton.jit
def last_of_tile(counter_ptr, work, size, MERGE, COUNTED):
    """Whether this program is the last to merge maps of its tile; COUNTED: others have samples of it.

    Counters of tiles come after those of the maps in pieces, where there are any.
    """
    last = True
    if COUNTED:
        groups = tl.cdiv(size.N, size.SAMPLES)
        index = groups * size.TILES + work.tile if MERGE.P > 1 else work.tile
        last = arrived_last(counter_ptr, index, groups)
    else:
        tl.debug_barrier()
    return last


@triton.jit
def unbias(var, count):
    """The unbiased variance from that of a population of `count` elements; 0 stays 0 for a single element."""
    return var * (count.to(var.dtype) / tl.maximum(count - 1, 1).to(var.dtype))


@triton.jit
def folded(values, FOLD, BLOCK):
    """FOLD sums of each map of a block, of elements that one thread holds: what accumulates then takes few registers.

    Those are 8 neighbours, which come as one load, or in channels-last blocks every 32nd row.
    """
    N: tl.constexpr = BLOCK.N
    C: tl.constexpr = BLOCK.C
    TIMES: tl.constexpr = BLOCK.L // FOLD
    if TIMES > 1:
        if BLOCK.CHANNELS_LAST:
            values = tl.sum(tl.reshape(values, (N, C, TIMES, FOLD)), 2)
        else:
            values = tl.sum(tl.reshape(values, (N, C, FOLD, TIMES)), 3)
    return values


@triton.jit
def zeros(N, C, L, ACC):
    """Zeros (N, C, L): Triton takes fields of constants as arguments, but in no tuple."""
    return tl.zeros((N, C, L), ACC)
