"""What kernels and device functions are given together.

Constants are made on the host and are one constant of a kernel each: `BLOCK.N` in a kernel is `Blocks.N`. What is known
when a kernel runs is bundled in the kernel, from its arguments. Fields that are pointers may be None.
"""

from __future__ import annotations

from typing import NamedTuple

import triton.language as tl


class Blocks(NamedTuple):
    """BLOCK: samples, channels and elements of a block (N, C, L), and how it lies in memory.

    WHOLE: it holds whole maps. ALIGN: elements of which the contiguous dimension is a multiple; SHIFTED: of which only
    samples are, see `geometry`. STAGES: blocks that a program works on or waits for.
    """

    N: int
    C: int
    L: int
    CHANNELS_LAST: bool
    ALIGN: int
    WHOLE: bool = True
    STAGES: int = 1
    SHIFTED: bool = False


class Merge(NamedTuple):
    """MERGE: sums of a map while it is read (FOLD), and what is merged at once.

    OWN: a program's own samples. N: those of a part of the batch. P: pieces of a map, 1 where there are no more.
    """

    FOLD: int
    OWN: int
    N: int
    P: int


class Pool(NamedTuple):
    """POOL: how statistics over channels come about.

    HELD: channels of a group, 1 where there are none, in programs that hold all that is pooled; else 0, and T tiles are
    read at once (ALL_T: these are all), or W members of a group; W is 0 where groups are made of whole tiles.
    """

    HELD: int
    T: int = 1
    ALL_T: bool = True
    W: int = 0


class Rule(NamedTuple):
    """RULE: the place of each statistic in it, or -1 where it lacks it; MIXED: there is importance to read."""

    INSTANCE: int = -1
    LAYER: int = -1
    BATCH: int = -1
    GROUP: int = -1
    MIXED: bool = False
    UNBIASED: bool = False
    FLAT: bool = False


class Choice(NamedTuple):
    """CHOICE: how K logits, of which MEMBERS has a bit for each in use, become importance."""

    K: int = 0
    MEMBERS: int = 0
    PROJECTION: int = 0
    TIED: bool = False


class Sizes(NamedTuple):
    """x (N, C, L), in TILES of channels, P pieces of PIECE elements a map, SAMPLES a program.

    PART samples are a part of the batch, WIDTH channels a group. In 64 bits: C (ROW), and a sample's elements (SAMPLE).
    """

    N: tl.tensor
    C: tl.tensor
    L: tl.tensor
    P: tl.tensor
    PIECE: tl.tensor
    SAMPLES: tl.tensor
    PART: tl.tensor
    WIDTH: tl.tensor
    ROW: tl.tensor
    SAMPLE: tl.tensor
    TILES: tl.tensor


class Work(NamedTuple):
    """A program's tile of channels, its first and its last but one sample, and its piece of their maps."""

    tile: tl.tensor
    first: tl.tensor
    last: tl.tensor
    piece: tl.tensor


class Maps(NamedTuple):
    """Maps of samples n and channels c, (N, C): which exist (inside), and their places in a table (N, C).

    They are those of a tile from sample `first` on, up to but without `last`.
    """

    n: tl.tensor
    c: tl.tensor
    inside: tl.tensor
    place: tl.tensor
    tile: tl.tensor
    first: tl.tensor
    last: tl.tensor


class Logits(NamedTuple):
    """Logits of mean and variance, whether each choice is final, and SparsestMax's radius."""

    mean: tl.tensor
    var: tl.tensor
    mean_fixed: tl.tensor
    var_fixed: tl.tensor
    radius: tl.tensor


class Used(NamedTuple):
    """A mean and a variance (C,) to use as the batch's."""

    mean: tl.tensor
    var: tl.tensor


class Moving(NamedTuple):
    """Where the batch's mean and variance go (2, C), and running ones that move by a share towards them.

    The share is two numbers whose sum it is, since a launch hands over numbers of 32 bits alone.
    """

    batch: tl.tensor
    mean: tl.tensor
    var: tl.tensor
    counter: tl.tensor
    share: tl.tensor
    rest: tl.tensor


class Gradients(NamedTuple):
    """What the first launch of the backward pass leaves to the second.

    For maps: gradients of mixed mean and variance, the sums of dy and of dy times normalized x (4, N, C). For parts of
    the batch: sums of the gradients (2, N / PART, C). For tiles: sums of the gradients (2, N, TILES), and shares of the
    gradient of the importance, those of the mean's first, (TILES, 8), and by groups of samples (groups, TILES, 8).
    """

    maps: tl.tensor
    parts: tl.tensor
    tiles: tl.tensor
    shares: tl.tensor
