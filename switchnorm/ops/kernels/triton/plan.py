"""How a shape is cut into programs: on the host, once per shape."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from torch import Tensor

from switchnorm.ops.kernels.base import maps

#: Elements of a block; with 8 warps 8 per thread, which in bfloat16 are one load of 16 bytes.
BLOCK = 2048
WARPS = 8
#: Programs to aim for: four for each of an H200's 132 multiprocessors.
PROGRAMS = 528
#: Channels of a tile of channels-last x: 64 bytes of bfloat16, two whole sectors of the cache.
CHANNELS = 32
#: Longest row of a block of contiguous x, and the most elements that a finishing program merges at once.
LONGEST_ROW = 1024
MERGED = 2048
#: Most pieces of a map, and tiles of the channels: one program merges them in one step.
PIECES = 128
TILES = 4096


@dataclass(frozen=True)
class Plan:
    """How x (N, C, L) is cut.

    Attributes:
        samples, channels, size: N, C, L.
        channels_last: whether channels are contiguous in memory, which a map of one element counts as.
        align: the largest power of two up to 16 that divides the contiguous dimension.
        block_c, block_l: channels and elements of a block.
        tiles: tiles of channels, of `block_c` each.
        steps: blocks of one piece of a map.
        pieces: pieces of a map, for different programs.
        own: samples of a program; 1 where maps are in pieces.
    """

    samples: int
    channels: int
    size: int
    channels_last: bool
    align: int
    block_c: int
    block_l: int
    tiles: int
    steps: int
    pieces: int
    own: int

    @property
    def arrivals(self) -> int:
        """Programs per tile of channels."""
        return -(-self.samples // self.own) * self.pieces

    @property
    def programs(self) -> int:
        """Programs of a launch."""
        return self.tiles * self.arrivals

    @property
    def block_p(self) -> int:
        """Pieces, as a power of two."""
        return power_above(self.pieces)

    @property
    def block_t(self) -> int:
        """Tiles, as a power of two."""
        return power_above(self.tiles)

    def block_w(self, width: int) -> int:
        """How many members of a group of `width` every channel of a tile reads at once."""
        return min(power_above(width), max(1, MERGED // self.block_c))

    def block_n(self, samples: int) -> int:
        """How many of the `samples` that share a statistic a finishing program merges at once."""
        return min(power_above(samples), max(1, MERGED // (self.block_p * self.block_c)))


def plan(x: Tensor) -> Plan:
    """The plan for x, contiguous or channels-last."""
    samples, channels, size = maps(x).shape
    return plan_for(samples, channels, size, size == 1 or not x.is_contiguous())


@functools.lru_cache(maxsize=4096)
def plan_for(samples: int, channels: int, size: int, channels_last: bool) -> Plan:
    """The plan for a shape.

    Channels-last: rows of a tile of channels, 16 bytes a thread. Contiguous: whole maps side by side where they are
    short, one row of each map where they are long. Maps go to several programs only as far as that fills the device.
    """
    if channels_last:
        block_l = min(power_above(size), BLOCK // min(CHANNELS, power_above(channels)))
        block_c = min(power_above(channels), BLOCK // block_l)
    else:
        block_l = min(power_above(size), LONGEST_ROW)
        block_c = min(power_above(channels), BLOCK // block_l)
        if block_c * 2 <= BLOCK // block_l:
            block_l = min(power_above(size), BLOCK // block_c)
    block_c = max(block_c, power_above(-(-channels // TILES)))
    tiles = -(-channels // block_c)
    blocks = -(-size // block_l)
    wanted = -(-PROGRAMS // (tiles * samples))
    steps = -(-blocks // min(wanted, blocks, PIECES))
    return Plan(
        samples,
        channels,
        size,
        channels_last,
        math.gcd(16, channels if channels_last else size),
        block_c,
        block_l,
        tiles,
        steps,
        -(-blocks // steps),
        max(1, tiles * samples // PROGRAMS),
    )


def power_above(count: int) -> int:
    """The smallest power of two that is not below `count`."""
    return 1 << (count - 1).bit_length()
