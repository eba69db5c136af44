"""Normalization in one call: moments, rule, affine, in plain PyTorch.

This is the reference: differentiable any number of times, exportable, for any device and dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops import statistics as rules
from switchnorm.ops.moments import map_size, moments
from switchnorm.ops.statistics import BatchStatistics, Table


class Normalized(NamedTuple):
    """The result of `normalize`.

    Attributes:
        y: of x's shape, dtype and memory format.
        batch_mean, batch_var: (C,), detached; None unless the batch statistic was computed from x.
    """

    y: Tensor
    batch_mean: Tensor | None
    batch_var: Tensor | None


def normalize(
    x: Tensor,
    statistics: Sequence[str],
    mean_importance: Tensor | None = None,
    var_importance: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    running: Table | None = None,
    ghost: int | None = None,
    group: dist.ProcessGroup | None = None,
    unbiased: bool = True,
) -> Normalized:
    """Normalize x by a mixture of statistics (Switchable Normalization, eq. 2-3).

    y = (x - mean') / sqrt(var' + eps) * weight + bias, where mean' is the sum of every statistic's mean times its
    importance, and var' likewise with importance of its own.

    Args:
        x: (N, C, *S).
        statistics: names among "instance", "layer", "batch", "group:G".
        mean_importance, var_importance: (K,), one weight per statistic, those of the mean summing to 1; may be left
            out for a single statistic.
        weight, bias: (C,) or None.
        eps: added to the variance.
        running: the (C,) mean and variance to use as the batch statistic instead of x's own.
        ghost: samples per group for the batch statistic; None pools the whole batch.
        group: processes over which the batch statistic is taken.
        unbiased: take SN's published variances (unbiased within a map, all others derived from these). Otherwise the
            population variance, as torch.nn's layers do.

    Raises:
        InputError: statistics that are unknown or do not fit the channels, another number of importance weights than
            of statistics, the batch statistic alone over a single element per channel, or `ghost` together with
            `group`.
    """
    if ghost is not None and group is not None:
        raise InputError("ghost batches and synchronised statistics exclude each other; choose ghost or sync")
    statistics = rules.check_statistics(statistics, x.shape[1])
    if statistics == ("batch",) and running is None and group is None:
        check_batch(x, ghost)
    size = map_size(x)
    mean, var = moments(x)
    if unbiased:
        var = rules.unbias(var, size)
    # Tables relative to a common number keep their digits under a large offset; the result does not depend on it. Every
    # sample has its own number, so that no other sample touches it, unless samples share statistics.
    pivot = mean.detach().mean(1, keepdim=True)
    if "batch" in statistics and running is None:
        pivot = pivot.sum(0, keepdim=True) / max(x.shape[0], 1)
    mean = mean - pivot

    flat = unbiased and x.dim() == 2
    batch: BatchStatistics | None = None
    tables: list[Table] = []
    for name in statistics:
        if name == "instance":
            tables.append((mean, var))
        elif name == "layer":
            tables.append(rules.grouped(mean, var, 1, flat=flat))
        elif name.startswith("group:"):
            tables.append(rules.grouped(mean, var, int(name[6:]), flat=flat))
        elif running is not None:
            tables.append((running[0].to(mean.dtype) - pivot, running[1].to(mean.dtype)))
        else:
            torch_running = 0 if unbiased else size
            if group is not None:
                batch = rules.synchronised(mean, var, pivot, group, flat=flat, torch_running=torch_running)
            elif ghost is not None:
                batch = rules.ghosted(mean, var, ghost, flat=flat, torch_running=torch_running)
            else:
                batch = rules.batched(mean, var, flat=flat, torch_running=torch_running)
            tables.append((batch.mean, batch.var))

    mixed_mean = _mix([m for m, _ in tables], mean_importance)
    mixed_var = _mix([v for _, v in tables], var_importance)
    y = _affine(x, pivot, mixed_mean, mixed_var, weight, bias, eps)
    if batch is None:
        return Normalized(y, None, None)
    return Normalized(y, (batch.running_mean + pivot[0]).detach(), batch.running_var.detach())


def check_batch(x: Tensor, ghost: int | None = None) -> None:
    """Raise `InputError` if batch statistics of x would be those of a single element per channel."""
    smallest = x.shape[0] if ghost is None else x.shape[0] % ghost or min(x.shape[0], ghost)
    if smallest * map_size(x) == 1:
        raise InputError(
            f"batch statistics need more than one element per channel, got input {tuple(x.shape)}"
            + (f" in ghost batches of {ghost}" if ghost else "")
            + "; use 2 or more samples, or add 'instance', 'layer' or 'group:G' to the statistics"
        )


def _mix(tables: list[Tensor], importance: Tensor | None) -> Tensor:
    """Sum of tables weighted by importance (K,); not a matrix product, which autocast would round."""
    given = 1 if importance is None else len(importance)
    if given != len(tables):
        raise InputError(f"{len(tables)} statistics need as many importance weights, got {given}")
    if importance is None:
        return tables[0]
    weights = importance.to(tables[0].dtype).unbind()
    mixed = weights[0] * tables[0]
    for weight, table in zip(weights[1:], tables[1:], strict=True):
        mixed = mixed + weight * table
    return mixed


def _affine(
    x: Tensor, pivot: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """(x - pivot - mean) / sqrt(var + eps) * weight + bias in the tables' dtype, returned in x's."""
    scale = (var + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.to(scale.dtype)
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias.to(shift.dtype)
    over_maps = (..., *(None,) * (x.dim() - 2))
    y = (x.to(scale.dtype) - pivot[over_maps]) * scale[over_maps] + shift[over_maps]
    return y.to(x.dtype)
