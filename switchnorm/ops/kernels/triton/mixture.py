"""What the fused kernels need to know of a rule: on the host, once per shape."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from switchnorm.ops.kernels.triton.bundles import Pool, Rule
from switchnorm.ops.kernels.triton.cut import Plan, power_above

#: Elements that a program can hold in registers.
RESIDENT = 8192
#: Numbers of importance at the head of what is kept: see `tables`.
HEAD = 8
#: Fewest channels of a program that holds channels-last maps: 16 or 32 bytes a row.
NARROWEST = 8


@dataclass(frozen=True)
class Mixture:
    """A mixture of statistics over an (N, C) table.

    Attributes:
        rule: what kernels are told.
        used: whether the batch statistic is given, a running one, which is not pooled.
        members: a bit for each logit that takes part.
        part: samples of one part of the batch; N where it is not pooled.
        width: channels of a group; C where there is none.
    """

    rule: Rule
    used: bool
    members: int
    part: int
    width: int

    @property
    def pools_batch(self) -> bool:
        """Whether the batch statistic is computed from x."""
        return self.rule.BATCH >= 0 and not self.used

    def saved(self, samples: int, channels: int) -> int:
        """How many numbers are kept for the backward pass: see `tables`."""
        kept = HEAD + 4 * samples * channels
        if self.rule.LAYER >= 0:
            kept += 2 * samples
        if self.rule.GROUP >= 0:
            kept += 2 * samples * (channels // self.width)
        if self.pools_batch:
            kept += 2 * (samples // self.part) * channels
        return kept

    def pool(self, plan: Plan) -> Pool:
        """How the second launch pools over channels."""
        # Where tiles make up groups, they are pooled.
        cut_groups = self.rule.GROUP >= 0 and self.width % plan.block_c != 0
        members = plan.block_w(self.width) if cut_groups else 0
        return Pool(0, plan.block_t, plan.tiles <= plan.block_t, members)

    def held(self) -> Pool:
        """How programs pool that hold everything."""
        return Pool(self.width if self.rule.GROUP >= 0 else 1)

    def pooled(self, plan: Plan) -> bool:
        """Whether the statistics of whole tiles are needed."""
        return self.rule.LAYER >= 0 or (self.rule.GROUP >= 0 and self.width % plan.block_c == 0)

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
        if self.rule.LAYER >= 0 or self.rule.GROUP >= 0 or ties_all:
            # Groups of a power of two are parts of a block.
            if channels > room or (self.rule.GROUP >= 0 and self.width & (self.width - 1)):
                return None
            return block_n, channels, power_above(plan.size)
        narrowest = min(channels, NARROWEST if plan.channels_last else 1)
        if room < narrowest:
            return None
        # No wider than it takes: the rest of the device has work too.
        enough = max(narrowest, room // 4)
        return block_n, min(channels, enough), power_above(plan.size)


@functools.lru_cache(maxsize=4096)
def mixture(
    samples: int,
    channels: int,
    flat: bool,
    statistics: tuple[str, ...],
    used: bool,
    ghost: int | None,
    unbiased: bool,
    given: bool,
    mixed: bool,
) -> Mixture:
    """The mixture for an input of so many samples and channels.

    Args:
        samples, channels, flat, statistics, ghost, unbiased: as in `switchnorm.ops.rule.Rule`.
        used: whether a batch statistic is given.
        given: whether importance is, for all statistics. From logits there is none for the instance statistic of a flat
            input.
        mixed: whether there is importance; a single statistic has none.
    """
    kept = [given or not flat or name != "instance" for name in statistics]
    places = {name.split(":")[0]: k for k, name in enumerate(statistics) if kept[k]}
    groups = next((int(name[6:]) for name in statistics if name.startswith("group:")), 1)
    whole = ghost is None or ghost > samples or used or "batch" not in places
    instance, layer, batch, group = (places.get(name, -1) for name in ("instance", "layer", "batch", "group"))
    rule = Rule(instance, layer, batch, group, mixed, unbiased, flat)
    part = samples if whole or ghost is None else ghost
    return Mixture(rule, used, sum(1 << k for k in places.values()), part, channels // groups)
