"""From moments to the mean and variance that a normalizer uses, and the way back of their gradients.

All of it happens on (N, C) tables. Every path of `switchnorm.ops.normalize` derives its tables here; the fast paths also
take their gradient from here, where the reference leaves it to autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops import statistics as pools
from switchnorm.ops.statistics import Pool, Table


@dataclass(frozen=True)
class Rule:
    """What distinguishes one normalizer from another.

    Attributes:
        statistics: names among "instance", "layer", "batch", "group:G".
        size: elements of a (sample, channel) map.
        flat: whether x is (N, C), so that variances are those over entries of the tables.
        eps: added to the variance.
        ghost: samples per part of the batch statistic.
        group: processes that share the batch statistic.
        unbiased: whether variances are SN's published ones.
    """

    statistics: tuple[str, ...]
    size: int
    flat: bool
    eps: float
    ghost: int | None
    group: dist.ProcessGroup | None
    unbiased: bool

    @property
    def map_factor(self) -> float:
        """What turns the population variance of a map into the one that is used."""
        return self.size / (self.size - 1) if self.unbiased and self.size > 1 else 1.0


class Statistic(NamedTuple):
    """One statistic of every map.

    Attributes:
        mean, var: tables that broadcast against (N, C).
        pool: which entries they were averaged from; None for the moments themselves and for running statistics.
    """

    mean: Tensor
    var: Tensor
    pool: Pool | None


class Derived(NamedTuple):
    """All statistics of an input, their means relative to a pivot.

    Attributes:
        pivot: (N, 1) or (1, 1). Tables relative to a common number keep their digits under a large offset.
        mean: of each map, (N, C).
        statistics: in the order of the rule.
        batch_mean, batch_var: (C,), not relative to anything; None unless the batch statistic was computed.
    """

    pivot: Tensor
    mean: Tensor
    statistics: list[Statistic]
    batch_mean: Tensor | None
    batch_var: Tensor | None


def derive(rule: Rule, mean: Tensor, var: Tensor, running: Table | None = None) -> Derived:
    """Every statistic of the rule.

    Args:
        rule: what to derive.
        mean, var: (N, C), with the population variance of each map.
        running: the (C,) mean and variance to use as the batch statistic.
    """
    samples, channels = mean.shape
    var = var * rule.map_factor if rule.map_factor != 1 else var
    # The result does not depend on the pivot. Every sample has its own, so that no other sample touches it, unless
    # samples share statistics.
    pivot = mean.detach().mean(1, keepdim=True)
    if "batch" in rule.statistics and running is None:
        pivot = pivot.sum(0, keepdim=True) / max(samples, 1)
    mean = mean - pivot

    flat = rule.unbiased and rule.flat
    torch_running = 0 if rule.unbiased else rule.size
    batch_mean = batch_var = None
    derived: list[Statistic] = []
    for name in rule.statistics:
        if name == "instance":
            derived.append(Statistic(mean, var, None))
        elif name != "batch":
            pool = pools.group_pool(channels, groups_of(name))
            derived.append(Statistic(*pools.pooled(pool, mean, var, flat=flat), pool))
        elif running is not None:
            derived.append(Statistic(running[0].to(mean.dtype) - pivot, running[1].to(mean.dtype)[None], None))
        else:
            if rule.group is None:
                batch = pools.batched(mean, var, rule.ghost, flat=flat, torch_running=torch_running)
            else:
                batch = pools.synchronised(mean, var, pivot, rule.group, flat=flat, torch_running=torch_running)
            derived.append(Statistic(batch.mean, batch.var, batch.pool))
            batch_mean, batch_var = (batch.running_mean + pivot[0]).detach(), batch.running_var.detach()
    return Derived(pivot, mean, derived, batch_mean, batch_var)


def groups_of(name: str) -> int:
    """How many groups "layer" or "group:G" make of a sample's channels."""
    return 1 if name == "layer" else int(name[6:])


def mix(tables: Sequence[Tensor], importance: Tensor | None) -> Tensor:
    """Sum of tables weighted by importance (K,); not a matrix product, which autocast would round."""
    given = 1 if importance is None else len(importance)
    if given != len(tables):
        raise InputError(f"{len(tables)} statistics need as many importance weights, got {given}")
    if importance is None:
        return tables[0]
    weights = importance.to(tables[0].dtype).unbind()
    mixed = weights[0] * tables[0]
    for weight, table in zip(weights[1:], tables[1:], strict=True):
        mixed = torch.addcmul(mixed, weight, table)
    return mixed


class RuleGradient(NamedTuple):
    """Gradients that leave the rule.

    Attributes:
        mean, var: of the moments, (N, C), var being the population variance of each map.
        mean_importance, var_importance: (K,), or None where there was none.
    """

    mean: Tensor
    var: Tensor
    mean_importance: Tensor | None
    var_importance: Tensor | None


def gradient(
    rule: Rule,
    mean: Tensor,
    statistics: Sequence[Statistic],
    mean_importance: Tensor | None,
    var_importance: Tensor | None,
    mixed_mean_grad: Tensor,
    mixed_var_grad: Tensor,
) -> RuleGradient:
    """The gradient of the moments and of the importance.

    With m = P mean and v = P (var + (mean - m)²), for a pool's average P, which is its own adjoint: d v / d mean, applied
    to g, is 2 (mean - m) P g, since P (mean - m) = 0.

    Args:
        rule: as in the forward pass.
        mean, statistics: as `derive` gave them.
        mean_importance, var_importance: as in the forward pass; None is 1 for a single statistic.
        mixed_mean_grad, mixed_var_grad: (N, C), of the mixed tables.
    """
    weights = [_weights(importance, mixed_mean_grad) for importance in (mean_importance, var_importance)]
    mean_grad = torch.zeros_like(mixed_mean_grad)
    var_grad = torch.zeros_like(mixed_var_grad)
    both = torch.stack((mixed_mean_grad, mixed_var_grad))
    for name, statistic, w, v in zip(rule.statistics, statistics, *weights, strict=True):
        if name == "instance":
            mean_grad.addcmul_(mixed_mean_grad, w)
            var_grad.addcmul_(mixed_var_grad, v)
        elif statistic.pool is not None:
            shared_mean, shared_var = statistic.pool.average(both).unbind()
            shared_var = shared_var * v
            if rule.flat and rule.unbiased:
                shared_var = pools.unbias(shared_var, statistic.pool.count)
            mean_grad.addcmul_(shared_mean, w).addcmul_(mean - statistic.mean, shared_var, value=2)
            var_grad += shared_var
    if rule.map_factor != 1:
        var_grad *= rule.map_factor
    return RuleGradient(
        mean_grad,
        var_grad,
        _importance_grad(mean_importance, mixed_mean_grad, [s.mean for s in statistics]),
        _importance_grad(var_importance, mixed_var_grad, [s.var for s in statistics]),
    )


def _weights(importance: Tensor | None, like: Tensor) -> Sequence[Tensor]:
    return (like.new_ones(()),) if importance is None else importance.to(like.dtype).unbind()


def _importance_grad(importance: Tensor | None, grad: Tensor, tables: Sequence[Tensor]) -> Tensor | None:
    if importance is None:
        return None
    return torch.stack([(grad * table).sum() for table in tables]).to(importance.dtype)
