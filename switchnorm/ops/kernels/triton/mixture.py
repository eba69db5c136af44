"""What the fused kernels need to know of a rule: on the host, once per shape."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switchnorm.ops.kernels.triton.plan import Plan, power_above

#: Elements that a program can hold in registers.
RESIDENT = 8192
#: Fewest channels of a program that holds channels-last maps: 16 or 32 bytes a row.
NARROWEST = 8


@dataclass(frozen=True)
class Mixture:
    """A mixture of statistics over an (N, C) table.

    Attributes:
        instance, layer, batch, group: place in the rule, or -1.
        running: whether the batch statistic is a running one, which is not pooled.
        part: samples of one part of the batch; N where it is not pooled.
        width: channels of a group; C where there is none.
        unbiased, flat: as in `switchnorm.ops.rule.Rule`.
    """

    instance: int
    layer: int
    batch: int
    group: int
    running: bool
    part: int
    width: int
    unbiased: bool
    flat: bool

    @property
    def pools_batch(self) -> bool:
        """Whether the batch statistic is computed from x."""
        return self.batch >= 0 and not self.running

    def saved(self, samples: int, channels: int) -> int:
        """How many numbers are kept for the backward pass: see `tables`."""
        kept = 4 * samples * channels
        if self.layer >= 0:
            kept += 2 * samples
        if self.group >= 0:
            kept += 2 * samples * (channels // self.width)
        if self.pools_batch:
            kept += 2 * (samples // self.part) * channels
        return kept

    def block_w(self, plan: Plan) -> int:
        """Members of a group that every channel reads at once; 0 where tiles make up groups, which are then pooled."""
        if self.group < 0 or self.width % plan.block_c == 0:
            return 0
        return plan.block_w(self.width)

    def pooled(self, plan: Plan) -> bool:
        """Whether the statistics of whole tiles are needed."""
        return self.layer >= 0 or (self.group >= 0 and self.block_w(plan) == 0)

    def places(self) -> dict[str, int]:
        """The constants of the kernels that say where statistics stand."""
        return {"INSTANCE": self.instance, "LAYER": self.layer, "BATCH": self.batch, "GROUP": self.group}

    def resident(self, plan: Plan, ties_samples: bool, ties_all: bool, itemsize: int) -> tuple[int, int, int] | None:
        """The block (N, C, L) of programs that each hold all that depends on each other; None where that is too much.

        Args:
            plan: of x.
            ties_samples: whether something else than the batch statistic does.
            ties_all: whether the gradient of the importance ties all maps.
            itemsize: of what is accumulated.
        """
        if plan.channels * plan.size >= 1 << 31:
            return None  # Its programs find elements of a sample by 32 bits.
        channels = power_above(plan.channels)
        room = RESIDENT * 4 // itemsize // power_above(plan.size)
        if self.pools_batch or ties_samples or ties_all:
            if self.pools_batch and self.part != plan.samples:
                return None
            block_n = power_above(plan.samples)
        else:
            block_n = 1
        room //= block_n
        if self.layer >= 0 or self.group >= 0 or ties_all:
            # Groups of a power of two are parts of a block.
            if channels > room or (self.group >= 0 and self.width & (self.width - 1)):
                return None
            return block_n, channels, power_above(plan.size)
        narrowest = min(channels, NARROWEST if plan.channels_last else 1)
        if room < narrowest:
            return None
        # No wider than it takes: the rest of the device has work too.
        enough = max(narrowest, room // 4)
        return block_n, min(channels, enough), power_above(plan.size)


def mixture(x: Tensor, statistics: Sequence[str], running: Tensor | None, ghost: int | None, unbiased: bool) -> Mixture:
    """The mixture for x and the arguments of the operator."""
    arguments = (*x.shape[:2], x.dim() == 2, tuple(statistics), running is not None, ghost, unbiased)
    # Sizes that are symbols cannot be looked up.
    symbolic = any(isinstance(size, torch.SymInt) for size in x.shape[:2])
    return (_describe if symbolic else _described)(*arguments)


def _describe(
    samples: int,
    channels: int,
    flat: bool,
    statistics: tuple[str, ...],
    running: bool,
    ghost: int | None,
    unbiased: bool,
) -> Mixture:
    places = {name.split(":")[0]: place for place, name in enumerate(statistics)}
    groups = next((int(name[6:]) for name in statistics if name.startswith("group:")), 1)
    whole = ghost is None or ghost > samples or running or "batch" not in places
    return Mixture(
        places.get("instance", -1),
        places.get("layer", -1),
        places.get("batch", -1),
        places.get("group", -1),
        running,
        samples if whole or ghost is None else ghost,
        channels // groups,
        unbiased,
        flat,
    )


_described = functools.lru_cache(maxsize=4096)(_describe)
