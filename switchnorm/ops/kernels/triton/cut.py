"""How x is cut into programs, and the ways to cut it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from switchnorm.ops.kernels.triton.device import WARP, Device

#: Most warps of a program.
WARPS = 8
#: Without measurements: bytes of a block, and of the rows of channels-last blocks, which are two whole sectors of the
#: cache; elements of the rows of contiguous blocks; warps and programs of a multiprocessor, and blocks of a program on
#: their way or worked on.
BLOCK_BYTES = 8192
ROW_BYTES = 64
ROW = 256
BLOCK_WARPS = 4
PROGRAMS = 4
STAGES = 3
#: Most maps of a block: a dozen numbers belong to each.
MAPS = 512
#: Most registers of a thread.
REGISTERS = 255
#: Most elements that a program merges at once.
MERGED = 2048
#: Elements of which pieces are multiples, at least as many as `Plan.align` says.
UNIT = 16
#: Most pieces of a map, and tiles of the channels.
PIECES = 128
TILES = 4096
#: Counters of a launch: of tiles, and of the tiles of groups of samples whose maps are in pieces.
COUNTERS = 2 * TILES
#: Pieces that are merged at once, few sizes, since each is another kernel; and tiles of which the pools are.
MERGED_PIECES = (1, 16, 64, PIECES)
POOLED = 128


class Shape(NamedTuple):
    """What plans are made for: x (N, C, L), its layout, and bytes per element."""

    samples: int
    channels: int
    size: int
    channels_last: bool
    itemsize: int


@dataclass(frozen=True)
class Plan:
    """How x (N, C, L) is cut.

    Attributes:
        samples, channels, size: N, C, L.
        channels_last: whether channels are contiguous in memory, which a map of one element counts as.
        align: elements of which the contiguous dimension is a multiple: as many as 16 bytes hold, or 4, or 1.
        shifted: whether that is so of tiles of channels alone, not of their maps: rows of blocks then begin up to
            `align` - 1 elements before their map, see `geometry`.
        block_n, block_c, block_l: samples, channels and elements of a block.
        tiles: tiles of channels, of `block_c` each.
        piece: elements of a piece of a map, a multiple of `align` in contiguous x.
        pieces: pieces of a map, for different programs.
        own: samples of a program, a multiple of `block_n`.
        warps: of a program.
        stages: blocks that a program works on or waits for.
        registers: most per thread.
    """

    samples: int
    channels: int
    size: int
    channels_last: bool
    align: int
    shifted: bool
    block_n: int
    block_c: int
    block_l: int
    tiles: int
    piece: int
    pieces: int
    own: int
    warps: int
    stages: int
    registers: int

    @property
    def row(self) -> int:
        """Elements from where a map's row begins to the map's end, at most."""
        return self.size + self.align - 1 if self.shifted else self.size

    @property
    def steps(self) -> int:
        """Blocks of a piece of a map."""
        return -(-self.piece // self.block_l)

    @property
    def whole(self) -> bool:
        """Whether a block holds whole maps."""
        return self.row <= self.block_l

    def reading(self, tensors: int) -> Plan:
        """The plan of a launch that reads so many tensors: the same programs, in blocks of half the size for several.

        As many bytes are on their way then, and a thread has registers for them.
        """
        if tensors == 1:
            return self
        if self.block_n > 1:
            return replace(self, block_n=self.block_n // 2)
        return self if self.whole else replace(self, block_l=max(1, self.block_l // 2))

    def writing(self, tensors: int) -> Plan:
        """The plan of a launch that reads so many tensors, and writes what it makes of them by numbers of maps.

        Shifted rows are written by the numbers of two maps, which take registers as a second tensor does.
        """
        return self.reading(max(tensors, 2) if self.shifted else tensors)

    @property
    def groups(self) -> int:
        """Groups of samples that belong to one program each."""
        return -(-self.samples // self.own)

    @property
    def arrivals(self) -> int:
        """Programs per tile of channels."""
        return self.groups * self.pieces

    @property
    def programs(self) -> int:
        """Programs of a launch."""
        return self.tiles * self.arrivals

    @property
    def block_p(self) -> int:
        """Pieces that are merged at once; see `MERGED_PIECES`."""
        return next(count for count in MERGED_PIECES if count >= self.pieces)

    def block_w(self, width: int) -> int:
        """How many members of a group of `width` every channel of a tile reads at once."""
        # Beside these numbers a program holds a dozen for each of its maps.
        return min(power_above(width), max(1, MERGED // 4 // (self.block_n * self.block_c)))

    @property
    def block_t(self) -> int:
        """How many tiles' pools a program reads at once, of as many as there are."""
        return max(1, min(POOLED, MERGED // self.block_n))

    def merge_n(self, samples: int) -> int:
        """How many of the `samples` that share a statistic a program merges at once."""
        return min(power_above(samples), max(1, MERGED // (self.block_p * self.block_c)))


class Tuning(NamedTuple):
    """What measurements decide about cuts; the rest follows from shape and device.

    Attributes:
        elements: of a block.
        row: contiguous elements of a block, as far as there are as many.
        warps: of a program.
        programs: of a multiprocessor, for which registers are kept free.
        stages: blocks of a program that are worked on or on their way.
    """

    elements: int
    row: int
    warps: int
    programs: int
    stages: int


def untuned(shape: Shape) -> Tuning:
    """What holds where nothing was measured."""
    elements, stages = BLOCK_BYTES // shape.itemsize, STAGES
    align, _ = alignment(shape)
    if align == 1 and shape.itemsize == 4:
        # A thread that reads element by element has no registers for the places of many: blocks of 4 a thread, twice as
        # many of them on their way.
        elements, stages = BLOCK_BYTES // 16, 2 * STAGES - 1
    elif align == 1 and shape.itemsize < 4:
        # Such elements are not copied ahead, so that there are places for 8 of short maps, and 16 of long ones.
        short = shape.size <= ROW // 4 and not shape.channels_last
        elements = BLOCK_BYTES // (8 if short else 4)
    # Each program of the second launch reads what tiles of channels came to, so there are not to be many.
    row = ROW_BYTES // shape.itemsize if shape.channels_last else min(ROW, elements // 8)
    return Tuning(elements, row, BLOCK_WARPS, PROGRAMS, stages)


def cuts(shape: Shape, tuning: Tuning, device: Device) -> Iterator[Plan]:
    """Plans of one to three waves: which samples are one program's, and in how many pieces maps are."""
    registers = min(REGISTERS, device.registers // (tuning.programs * tuning.warps * WARP)) // 8 * 8
    align, shifted = alignment(shape)
    row = shape.size + align - 1 if shifted else shape.size
    for block_n, block_c, block_l in _blocks(shape, tuning, device):
        tiles = -(-shape.channels // block_c)
        groups, blocks = -(-shape.samples // block_n), -(-row // block_l)
        for waves in (1, 2, 3):
            # Programs of a tile.
            room = max(1, waves * tuning.programs * device.multiprocessors // tiles)
            for own in {-(-groups // parts) for parts in range(1, min(groups, room) + 1)}:
                pieces = _merged(min(room // -(-groups // own), blocks, PIECES), shape.size)
                piece = -(-row // (pieces * UNIT)) * UNIT
                yield Plan(
                    *shape[:4],
                    align,
                    shifted,
                    block_n,
                    block_c,
                    block_l,
                    tiles,
                    piece,
                    -(-row // piece),
                    own * block_n,
                    tuning.warps,
                    tuning.stages,
                    registers,
                )


def _merged(pieces: int, size: int) -> int:
    """As many pieces, but for a few that would only begin the next larger size of merging, with its registers.

    Unless maps are so short that pieces in multiples of `UNIT` would leave places empty.
    """
    enough = (count for count in MERGED_PIECES if count < pieces <= count * 33 // 32 and size >= count * ROW)
    return next(enough, pieces)


def alignment(shape: Shape) -> tuple[int, bool]:
    """`Plan.align` and `Plan.shifted`."""
    levels = [count for count in (16 // shape.itemsize, 4) if count * shape.itemsize <= 16]
    contiguous = shape.channels if shape.channels_last else shape.size
    aligned = (level for level in levels if contiguous % level == 0)
    # Elements of no more than two maps are in a vector; inside a block, places are of 32 bits.
    fits = not shape.channels_last and shape.size < 1 << 28
    shifted = (level for level in levels if fits and shape.channels % level == 0 and level <= shape.size)
    return next(((level, False) for level in aligned), next(((level, True) for level in shifted), (1, False)))


def _blocks(shape: Shape, tuning: Tuning, device: Device) -> Iterator[tuple[int, int, int]]:
    """Samples, channels and elements of blocks; several samples where a block holds their whole maps."""
    align, shifted = alignment(shape)
    row = shape.size + align - 1 if shifted else shape.size
    samples, channels, size = (power_above(count) for count in (*shape[:2], row))
    # No more tiles than `TILES`, which begin with a vector.
    least = max(power_above(-(-shape.channels // TILES)), align if shifted else 1)
    halves = 1
    if shape.channels_last:
        block_c = max(least, min(channels, tuning.row))
        block_l = max(1, min(size, tuning.elements // block_c))
    else:
        block_l = min(size, tuning.row)
        if (
            block_l > tuning.row // 4
            and math.prod(shape[:3]) < device.multiprocessors * tuning.programs * tuning.elements
        ):
            # What takes a single round needs no kernels of its own.
            block_l = tuning.row
        # What writes shifted rows takes half of a block's samples, as what reads several tensors does.
        halves = 2 if shifted and block_l >= size else 1
        # Inside a block, places are of 32 bits.
        block_c = max(least, min(channels, tuning.elements // (halves * block_l), MAPS, max(1, (1 << 31) // size)))
    wide = [block_c]
    if block_l >= size:
        # More or fewer channels, for as many fewer or more samples.
        wide += [other for other in (block_c * 2, block_c * 4, block_c // 2) if least <= other <= channels]
    for block_c in wide:
        block_n = min(tuning.elements // block_l, MAPS) // block_c if block_l >= size else 1
        if block_n >= halves or block_c == wide[0]:
            yield max(1, min(samples, block_n)), block_c, block_l


def power_above(count: int) -> int:
    """The smallest power of two that is not below `count`."""
    return 1 << (count - 1).bit_length()
