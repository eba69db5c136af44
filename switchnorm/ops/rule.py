"""From moments to the mean and variance that a normalizer uses, and the way back of their gradients.

All of it happens on (N, C) tables. Every path of `switchnorm.ops.normalize` derives its tables here; the fast paths
also take their gradient from here, where the reference leaves it to autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from switchnorm.ops import statistics as pools
from switchnorm.ops.moments import cast
from switchnorm.ops.partition import Ghost
from switchnorm.ops.statistics import Pool, Table


class Rule(NamedTuple):
    """What distinguishes one normalizer from another.

    Attributes:
        statistics: names among "instance", "layer", "batch", "group:G".
        size: elements of a (sample, channel) map.
        flat: whether x is (N, C), so that variances are those over entries of the tables.
        eps: added to the variance.
        ghost: the parts of the batch statistic, as `switchnorm.ops.partition.parts` gives them.
        group: processes that share the batch statistic.
        unbiased: whether variances are SN's published ones.
    """

    statistics: tuple[str, ...]
    size: int
    flat: bool
    eps: float
    ghost: Ghost
    group: dist.ProcessGroup | None
    unbiased: bool


def map_factor(rule: Rule) -> float:
    """The factor from the population variance of a map to the variance that a rule uses."""
    # No property of `Rule`: torch.compile of torch 2.8 does not trace properties of named tuples.
    return rule.size / (rule.size - 1) if rule.unbiased and rule.size > 1 else 1.0


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
    """All statistics of an input, their means relative to the pivot.

    Attributes:
        mean: of each map, (N, C).
        statistics: in the order of the rule.
        batch_mean, batch_var: (C,), not relative to anything; None unless the batch statistic was computed.
    """

    mean: Tensor
    statistics: list[Statistic]
    batch_mean: Tensor | None
    batch_var: Tensor | None


def derive(rule: Rule, mean: Tensor, var: Tensor, running: Table | None = None, pivot: Tensor | None = None) -> Derived:
    """Every statistic of the rule.

    Args:
        rule: what to derive.
        mean, var: (N, C); the variance is the one that the rule uses, `map_factor` times the population variance.
        running: the (C,) mean and variance to use as the batch statistic.
        pivot: as `pivot_of` gives it, or None where all means are small enough without one.
    """
    mean = mean if pivot is None else mean - pivot
    flat = rule.unbiased and rule.flat
    torch_running = 0 if rule.unbiased else rule.size
    batch_mean = batch_var = None
    derived: list[Statistic] = []
    for name in rule.statistics:
        if name == "instance":
            derived.append(Statistic(mean, var, None))
        elif name != "batch":
            pool = pools.group_pool(mean.shape[1], groups_of(name))
            derived.append(Statistic(*pools.pooled(pool, mean, var, flat=flat), pool))
        elif running is not None:
            running_mean, running_var = (cast(table, mean.dtype)[None] for table in running)
            running_mean = running_mean if pivot is None else running_mean - pivot
            derived.append(Statistic(running_mean, running_var, None))
        else:
            if rule.group is None:
                batch = pools.batched(mean, var, rule.ghost, flat=flat, torch_running=torch_running)
            else:
                batch = pools.synchronised(mean, var, pivot, rule.group, flat=flat, torch_running=torch_running)
            derived.append(Statistic(batch.mean, batch.var, batch.pool))
            batch_mean = batch.running_mean if pivot is None else batch.running_mean + pivot[0]
            batch_var = batch.running_var
    return Derived(mean, derived, batch_mean, batch_var)


def pivot_of(rule: Rule, mean: Tensor, running: Table | None) -> Tensor:
    """An offset that is subtracted from the means of x, (N, 1) or (1, 1), so that tables hold small numbers.

    It cancels in the result and only keeps digits. Every sample has its own, so that no sample's result depends on
    another sample, unless samples share statistics: then all have the same.

    Args:
        rule, running: as `derive` takes them.
        mean: of each map, (N, C).
    """
    pivot = mean.detach().mean(1, keepdim=True)
    if "batch" in rule.statistics and running is None:
        return pivot.sum(0, keepdim=True) / max(mean.shape[0], 1)
    return pivot


def groups_of(name: str) -> int:
    """How many groups "layer" or "group:G" make of a sample's channels."""
    return 1 if name == "layer" else int(name[6:])


#: One weight per statistic: numbers, or tensors without dimensions.
Weights = Sequence[Any]


def weights_of(importance: Tensor | None, like: Tensor, factor: float = 1.0) -> Weights:
    """Importance (K,) times `factor`, a weight per statistic for tables of `like`'s dtype; None counts as 1."""
    if importance is None:
        return (factor,)
    weights = cast(importance, like.dtype)
    return (weights if factor == 1 else weights * factor).unbind()


def mix(tables: Sequence[Tensor], weights: Weights) -> Tensor:
    """Sum of weighted tables; not a matrix product, which autocast would round."""
    if len(weights) == 1 and isinstance(weights[0], float) and weights[0] == 1:
        return tables[0]
    mixed = None
    # In reverse, so that "instance", mostly named first, is added last: its table is (N, C), those of the others are
    # mostly smaller, and so are their sums.
    for table, weight in reversed(list(zip(tables, weights, strict=True))):
        mixed = _plus(mixed, table, weight)
    assert mixed is not None
    return mixed


def _plus(total: Tensor | None, table: Tensor, weight: Tensor | float) -> Tensor:
    """total + table * weight."""
    if total is None:
        return table * weight
    if isinstance(weight, Tensor):
        return torch.addcmul(total, table, weight)
    return torch.add(total, table, alpha=weight)


def fixed(rule: Rule, running: Table | None) -> bool:
    """Whether the only statistics are running ones, so that the moments of x are not needed."""
    return running is not None and rule.statistics == ("batch",)


def gradient(
    rule: Rule,
    mean: Tensor,
    statistics: Sequence[Statistic],
    mean_weights: Weights,
    var_weights: Weights,
    mean_grad: Tensor,
    var_grad: Tensor,
    unit: float,
) -> Table | None:
    """The gradients of the mean and of the variance of each map, as tables that broadcast to (N, C); None for zeros.

    A pool's average P is its own adjoint. With m = P mean and v = P (var + (mean - m)²), a gradient g of v gives `mean`
    the gradient 2 (mean - m) P g; what would come through m is 0, since P (mean - m) = 0.

    Args:
        rule: as in the forward pass. The variance is the one it uses, `map_factor` times the population variance.
        mean, statistics: as `derive` gave them.
        mean_weights, var_weights: importance, as in the forward pass.
        mean_grad, var_grad: (N, C), of the mixed mean and of the mixed variance.
        unit: a factor that the caller has put into var_weights, so that the returned gradient of the variance contains
            it; that of the mean does not.
    """
    of_mean = of_var = None
    for (m, _, pool), w, v in zip(statistics, mean_weights, var_weights, strict=True):
        if pool is not None:
            shared_mean, shared_var = pool.totals(mean_grad, var_grad)
            # The unbiased variance of the entries of a flat input divides by one less.
            lost = 1 if rule.flat and rule.unbiased else 0
            shared_var = shared_var * (v / pools.at_least_one(pool.entries - lost))
            shared_mean = shared_mean * (w / pools.at_least_one(pool.entries))
            shared_mean = torch.addcmul(shared_mean, m, shared_var, value=-2 / unit)
            of_mean = shared_mean if of_mean is None else of_mean + shared_mean
            of_var = shared_var if of_var is None else of_var + shared_var
    if of_mean is not None and of_var is not None:
        of_mean = torch.addcmul(of_mean, mean, of_var, value=2 / unit)
    if "instance" in rule.statistics:
        k = rule.statistics.index("instance")
        of_mean, of_var = _plus(of_mean, mean_grad, mean_weights[k]), _plus(of_var, var_grad, var_weights[k])
    return None if of_mean is None or of_var is None else (of_mean, of_var)


def importance_gradient(
    importance: Tensor | None, mixed_grad: Tensor, tables: Sequence[Tensor], factor: float
) -> Tensor | None:
    """The gradient (K,) of the importance: factor * sum(mixed_grad * table) per statistic; None without importance."""
    if importance is None:
        return None
    return cast(torch.stack([(mixed_grad * table).sum() for table in tables]).mul_(factor), importance.dtype)
