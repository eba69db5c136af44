"""The statistics: how each derives from the moments of the (sample, channel) maps.

A statistic is a `Pool`: an average over some entries of an (N, C) table. Variances are pooled as the mean of variances
plus the variance of means, which is the published mean(var + mean²) - mean(mean)² without its cancellation (Luo et al.,
"Differentiable Learning-to-Normalize via Switchable Normalization", ICLR 2019, eq. 3-5). A sum over the entries that
share a statistic is its own adjoint, so the same pools serve the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from switchnorm.errors import InputError, unknown
from switchnorm.ops.partition import Ghost

Table = tuple[Tensor, Tensor]

#: What a process without samples has in place of variances for running statistics where no other has samples either.
NOTHING = float("-inf")


def check_statistics(statistics: Sequence[str], channels: int) -> tuple[str, ...]:
    """Return `statistics` as a tuple if a layer with `channels` channels can use them.

    Args:
        statistics: names among "instance", "layer", "batch" and "group:G", without repetition.
        channels: C.

    Raises:
        InputError: no list, no statistic in it, an unknown or repeated one, or a number of groups that does not divide
            the channels.
    """
    if isinstance(statistics, str):
        statistics = (statistics,)
    # A set has another order in every process, and with it logits another meaning.
    if not isinstance(statistics, (tuple, list)):
        raise InputError(f"statistics {statistics!r} is no list of names; one is ['instance', 'layer', 'batch']")
    statistics = tuple(statistics)
    if not statistics:
        raise InputError("statistics is empty; choose from 'instance', 'layer', 'batch', 'group:G'")
    for name in statistics:
        if not isinstance(name, str):
            raise InputError(f"statistic {name!r} is no name; choose from 'instance', 'layer', 'batch', 'group:G'")
        # Neither tuple.count nor a regular expression: torch.compile of torch 2.8 traces neither.
        if (times := len([other for other in statistics if other == name])) > 1:
            raise InputError(f"statistic {name!r} is given {times} times; once is enough")
        if name.startswith("group:") and name[6:].isdecimal():
            check_groups(int(name[6:]), channels)
        elif name not in ("instance", "layer", "batch"):
            raise unknown("statistic", name, ("instance", "layer", "batch", "group:32"))
    return statistics


def check_groups(groups: int, channels: int) -> int:
    """Return `groups` if it divides `channels`; raise `InputError` with the nearest counts that do."""
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise InputError(f"{groups!r} groups are no whole number; Group Norm's is 32")
    if groups < 1 or channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        below = max((g for g in divisors if g < groups), default=None)
        above = min((g for g in divisors if g > groups), default=None)
        nearest = [str(g) for g in (below, above) if g]
        counts = f"counts are {' or '.join(nearest)}" if len(nearest) > 1 else f"count is {nearest[0]}"
        raise InputError(f"{groups} groups do not divide {channels} channels; the nearest group {counts}")
    return groups


#: `torch.sum` or `torch.mean`.
Reduction = Callable[..., Tensor]


class Pool(NamedTuple):
    """Sums and averages over the entries of a table (N, C) that share a statistic.

    Attributes:
        reduce: reduce(torch.sum, table), or torch.mean: a table that broadcasts against the given one.
        entries: how many are reduced to one; a tensor that broadcasts against (N, C) where this differs by sample.
        both: the sums of two tables, where this is cheaper than one after the other.
    """

    reduce: Callable[[Reduction, Tensor], Tensor]
    entries: int | Tensor
    both: Callable[[Tensor, Tensor], Table] | None = None

    def totals(self, a: Tensor, b: Tensor) -> Table:
        """The sums of two tables."""
        if self.both is not None:
            return self.both(a, b)
        return self.reduce(torch.sum, a), self.reduce(torch.sum, b)


def group_pool(channels: int, groups: int) -> Pool:
    """Each sample over groups of adjacent channels; one group is the layer statistic."""
    width = channels // groups
    if groups == 1:
        return Pool(lambda by, t: by(t, 1, keepdim=True), channels)

    def reduce(by: Reduction, t: Tensor) -> Tensor:
        parts = t.view(t.shape[0], groups, width)
        return by(parts, 2, keepdim=True).expand(parts.shape).reshape(t.shape)

    return Pool(reduce, width)


def batch_pool(samples: int) -> Pool:
    """Each channel over all samples; zeros where there is none."""
    return Pool(lambda by, t: (by if samples else torch.sum)(t, 0, keepdim=True), samples)


def ghost_pool(like: Tensor, ghost: Ghost) -> Pool:
    """Each channel over the consecutive parts of a batch.

    This is what several GPUs with these samples compute without synchronisation.

    Args:
        like: a table (N, C).
        ghost: the parts, as `switchnorm.ops.partition.parts` gives them.
    """
    samples = like.shape[0]
    if isinstance(ghost, tuple):
        return _unequal_pool(like, ghost)
    if ghost is None or samples <= ghost:
        return batch_pool(samples)
    whole = samples - samples % ghost

    def reduce(by: Reduction, t: Tensor) -> Tensor:
        parts = t[:whole].unflatten(0, (-1, ghost))
        spread = by(parts, 1, keepdim=True).expand(parts.shape).flatten(0, 1)
        if whole == samples:
            return spread
        rest = t[whole:]
        return torch.cat((spread, by(rest, 0, keepdim=True).expand(rest.shape)))

    count: int | Tensor = ghost
    if whole < samples:
        count = like.new_full((samples, 1), ghost)
        count[whole:] = samples - whole
    return Pool(reduce, count)


def _unequal_pool(like: Tensor, sizes: tuple[int, ...]) -> Pool:
    # A sum for each part, so that it is the very sum that a process with this part alone computes.
    def reduce(by: Reduction, t: Tensor) -> Tensor:
        return torch.cat([by(part, 0, keepdim=True).expand(part.shape) for part in t.split(sizes)])

    return Pool(reduce, torch.cat([like.new_full((size, 1), size) for size in sizes]))


def process_pool(samples: Tensor, group: dist.ProcessGroup) -> Pool:
    """Each channel over the samples of all processes of `group`, for sums; one collective call, also for two tables.

    Args:
        samples: how many all processes hold, a tensor without dimensions.
        group: the processes.
    """

    def reduce(by: Reduction, tables: Tensor) -> Tensor:
        assert by is torch.sum
        summed = by(tables, -2, keepdim=True)
        dist.all_reduce(summed, group=group)
        return summed

    def both(a: Tensor, b: Tensor) -> Table:
        of_a, of_b = reduce(torch.sum, torch.stack((a, b))).unbind()
        return of_a, of_b

    return Pool(reduce, samples, both)


def pooled(pool: Pool, mean: Tensor, var: Tensor, *, flat: bool = False) -> Table:
    """The statistic of a pool, as tables that broadcast against (N, C).

    Args:
        pool: whose entries share the statistic.
        mean, var: the moments, (N, C).
        flat: x was (N, C), so that the variance is the unbiased one of the entries.
    """
    centre = pool.reduce(torch.mean, mean)
    difference = mean - centre
    spread = pool.reduce(torch.mean, torch.addcmul(var, difference, difference))
    return centre, unbias(spread, pool.entries) if flat else spread


class BatchStatistics(NamedTuple):
    """Statistics over samples.

    Attributes:
        pool: over which entries.
        mean, var: tables that broadcast against (N, C): for each sample, those of its part of the batch.
        running_mean, running_var: (C,), what running statistics are made from: the mean over the parts; variances are
            `NOTHING` where processes share statistics and none of them has samples.
    """

    pool: Pool
    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


def batched(
    mean: Tensor, var: Tensor, ghost: Ghost = None, *, flat: bool = False, torch_running: int = 0
) -> BatchStatistics:
    """Statistics of each channel over all samples, or over each of the parts of the batch.

    Args:
        mean, var: the moments, (N, C).
        ghost: the parts, as `switchnorm.ops.partition.parts` gives them.
        flat: x was (N, C), so that the variance is the unbiased one of the samples.
        torch_running: the size of a map where `running_var` is to be unbiased as in torch.nn.BatchNorm; 0 where it is
            to be `var`, as published for SN.
    """
    pool = ghost_pool(mean, ghost)
    mean, var = pooled(pool, mean, var, flat=flat)
    running_var = unbias(var, pool.entries * torch_running) if torch_running else var
    if mean.shape[0] == 1:
        return BatchStatistics(pool, mean, var, mean[0], running_var[0])
    running_mean, running_var = (_mean_over_parts(table, ghost) for table in (mean, running_var))
    return BatchStatistics(pool, mean, var, running_mean, running_var)


def _mean_over_parts(table: Tensor, ghost: Ghost) -> Tensor:
    """The mean (C,) over the parts of a batch of a table (N, C) that is the same within each."""
    firsts = torch.stack([part[0] for part in table.split(ghost)]) if isinstance(ghost, tuple) else table[::ghost]
    return firsts.mean(0)


def synchronised(
    mean: Tensor,
    var: Tensor,
    pivot: Tensor | None,
    group: dist.ProcessGroup,
    *,
    flat: bool = False,
    torch_running: int = 0,
) -> BatchStatistics:
    """Statistics of each channel over the samples of all processes of `group`, forward and backward.

    Each process may hold another number of samples, also none. One collective call in each direction.

    Args:
        mean, var: the moments of this process, (N, C), the means relative to `pivot`.
        pivot: (1, 1); every process may have its own, None being 0.
        group: the processes.
        flat, torch_running: as in `batched`.
    """
    samples = mean.shape[0]
    mean, var = pooled(batch_pool(samples), mean, var)
    count = mean.new_full((1, 1), samples)
    pivot = torch.zeros_like(count) if pivot is None else pivot
    # Each process fills its own row of a table of zeros, so that the sum over the processes holds all rows; the
    # backward pass of a sum is a sum, so that it is one collective call too.
    row = torch.cat((count, pivot, mean, var), dim=1)
    own = torch.zeros(dist.get_world_size(group), 1, dtype=row.dtype, device=row.device)
    own[dist.get_rank(group)] = 1
    rows: Tensor = _Sum.apply(own * row, group)
    counts, pivots, means, variances = rows.split((1, 1, mean.shape[1], mean.shape[1]), dim=1)

    total = counts.sum()
    share = counts / total.clamp(min=1)
    means = means + (pivots - pivot)
    mean = (share * means).sum(0, keepdim=True)
    var = (share * (variances + (means - mean).square())).sum(0, keepdim=True)
    if flat:
        var = unbias(var, total)
    running_var = unbias(var, total * torch_running) if torch_running else var
    if samples == 0:
        running_var = running_var.masked_fill(total == 0, NOTHING)
    return BatchStatistics(process_pool(total, group), mean, var, mean[0], running_var[0])


class _Sum(torch.autograd.Function):
    """The sum of the tensors of all processes of a group, in each of them; linear, and its own adjoint.

    It has no forward-mode derivative, since torch.compile takes no function that has one of its own.
    """

    @staticmethod
    def forward(t: Tensor, group: dist.ProcessGroup) -> Tensor:
        t = t.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(t, group=group)
        return t

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, dist.ProcessGroup], output: Tensor) -> None:
        _, ctx.group = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(grad, ctx.group), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], t: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, int]:
        return _Sum.apply(t, group), in_dims[0]


def unbias(var: Tensor, count: int | Tensor) -> Tensor:
    """Turn a population variance over `count` elements into the unbiased one; 0 stays 0 for a single element."""
    return var * (count / at_least_one(count - 1))


def at_least_one(count: int | Tensor) -> int | Tensor:
    """The count, or 1 where it is 0, so that dividing by it is safe."""
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
