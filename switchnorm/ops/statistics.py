"""The rules: how each statistic derives from the moments of the (sample, channel) maps.

Every rule takes the tables `mean`, `var` (N, C) and returns two tables that broadcast against them. Variances are
pooled as the mean of variances plus the variance of means, which is the published mean(var + mean²) - mean(mean)²
without its cancellation (Luo et al., "Differentiable Learning-to-Normalize via Switchable Normalization", ICLR 2019,
eq. 3-5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collective
from torch import Tensor

from switchnorm.errors import InputError, unknown

Table = tuple[Tensor, Tensor]


def check_statistics(statistics: Sequence[str], channels: int) -> tuple[str, ...]:
    """Return `statistics` as a tuple if a layer with `channels` channels can use them.

    Args:
        statistics: names among "instance", "layer", "batch" and "group:G", without repetition.
        channels: C.

    Raises:
        InputError: no statistic, an unknown or repeated one, or a number of groups that does not divide the channels.
    """
    statistics = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    if not statistics:
        raise InputError("statistics is empty; choose from 'instance', 'layer', 'batch', 'group:G'")
    for name in statistics:
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
    if groups < 1 or channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        below = max((g for g in divisors if g < groups), default=None)
        above = min((g for g in divisors if g > groups), default=None)
        nearest = [str(g) for g in (below, above) if g]
        counts = f"counts are {' or '.join(nearest)}" if len(nearest) > 1 else f"count is {nearest[0]}"
        raise InputError(f"{groups} groups do not divide {channels} channels; the nearest group {counts}")
    return groups


def grouped(mean: Tensor, var: Tensor, groups: int, *, flat: bool = False) -> Table:
    """Statistics of each sample over groups of adjacent channels.

    Args:
        mean, var: the moments, (N, C).
        groups: G, which divides C; 1 pools the whole sample (the "layer" statistic).
        flat: x was (N, C), so that a group's variance is the unbiased one of its channels.

    Returns:
        Tables (N, C), or (N, 1) for one group.
    """
    n, c = mean.shape
    shape = (n, groups, c // groups)
    mean, var = _pool(mean.view(shape), var.view(shape), 2)
    if flat:
        var = unbias(var, c // groups)
    if groups == 1:
        return mean[..., 0], var[..., 0]
    return mean.expand(shape).reshape(n, c), var.expand(shape).reshape(n, c)


class BatchStatistics(NamedTuple):
    """Statistics over samples.

    Attributes:
        mean, var: tables that broadcast against (N, C): for each sample, those of its part of the batch.
        running_mean, running_var: (C,), what running statistics are made from: the mean over the parts.
    """

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


def batched(mean: Tensor, var: Tensor, *, flat: bool = False, torch_running: int = 0) -> BatchStatistics:
    """Statistics of each channel over all samples.

    Args:
        mean, var: the moments, (N, C).
        flat: x was (N, C), so that the variance is the unbiased one of the samples.
        torch_running: the size of a map where `running_var` is to be unbiased as in torch.nn.BatchNorm; 0 where it is
            to be `var`, as published for SN.
    """
    samples = mean.shape[0]
    mean, var = _pool(mean, var, 0)
    if flat:
        var = unbias(var, samples)
    running_var = unbias(var, samples * torch_running) if torch_running else var
    return BatchStatistics(mean, var, mean[0], running_var[0])


def ghosted(mean: Tensor, var: Tensor, samples: int, *, flat: bool = False, torch_running: int = 0) -> BatchStatistics:
    """Statistics of each channel over consecutive parts of `samples` samples, the last of which may be smaller.

    This is what several GPUs with `samples` samples each compute without synchronisation. The other arguments are those
    of `batched`; the tables are (N, C).
    """
    n, c = mean.shape
    if n <= samples:
        return batched(mean, var, flat=flat, torch_running=torch_running)
    spread: list[Table] = []
    running: list[Table] = []
    whole = n - n % samples
    for part, size in ((slice(0, whole), samples), (slice(whole, n), n - whole)):
        if size:
            shape = (-1, size, c)
            m, v = _pool(mean[part].view(shape), var[part].view(shape), 1)
            if flat:
                v = unbias(v, size)
            spread.append((m.expand(shape).reshape(-1, c), v.expand(shape).reshape(-1, c)))
            running.append((m[:, 0], (unbias(v, size * torch_running) if torch_running else v)[:, 0]))
    mean, var = (torch.cat(tables) for tables in zip(*spread, strict=True))
    running_mean, running_var = (torch.cat(tables).mean(0) for tables in zip(*running, strict=True))
    return BatchStatistics(mean, var, running_mean, running_var)


def synchronised(
    mean: Tensor,
    var: Tensor,
    pivot: Tensor,
    group: dist.ProcessGroup,
    *,
    flat: bool = False,
    torch_running: int = 0,
) -> BatchStatistics:
    """Statistics of each channel over the samples of all processes of `group`, forward and backward.

    Each process may hold another number of samples, also none. One collective call in each direction.

    Args:
        mean, var: the moments of this process, (N, C), the means relative to `pivot`.
        pivot: (1, 1); every process may have its own.
        group: the processes.
        flat, torch_running: as in `batched`.
    """
    samples = mean.shape[0]
    mean, var = _pool(mean, var, 0)
    count = mean.new_full((1, 1), samples)
    # Summing tables that are zero outside the own row gathers them, with a backward of one sum too.
    row = torch.cat((count, pivot, mean, var), dim=1)
    own = torch.zeros(dist.get_world_size(group), 1, dtype=row.dtype, device=row.device)
    own[dist.get_rank(group)] = 1
    rows = collective.all_reduce(own * row, group=group)
    counts, pivots, means, variances = rows.split((1, 1, mean.shape[1], mean.shape[1]), dim=1)

    total = counts.sum()
    share = counts / total.clamp(min=1)
    means = means + (pivots - pivot)
    mean = (share * means).sum(0, keepdim=True)
    var = (share * (variances + (means - mean).square())).sum(0, keepdim=True)
    if flat:
        var = unbias(var, total)
    running_var = unbias(var, total * torch_running) if torch_running else var
    return BatchStatistics(mean, var, mean[0], running_var[0])


def unbias(var: Tensor, count: int | Tensor) -> Tensor:
    """Turn a population variance over `count` elements into the unbiased one; 0 stays 0 for a single element."""
    fewer = count - 1
    return var * (count / (fewer.clamp(min=1) if isinstance(fewer, Tensor) else max(fewer, 1)))


def _pool(mean: Tensor, var: Tensor, dim: int) -> Table:
    """Pool equally large maps along `dim`, which is kept with size 1; zeros where it is empty."""
    count = max(mean.shape[dim], 1)
    pooled = mean.sum(dim, keepdim=True) / count
    return pooled, (var + (mean - pooled).square()).sum(dim, keepdim=True) / count
