"""Normalization in one call: moments, rule, affine, by the fastest path that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, fx

from switchnorm.errors import InputError, unknown
from switchnorm.ops import autograd, reference
from switchnorm.ops.kernels.base import FLOATING, Operands, check_devices
from switchnorm.ops.kernels.choice import choose
from switchnorm.ops.moments import map_size
from switchnorm.ops.partition import Ghost, in_words, parts, smallest_part
from switchnorm.ops.rule import Rule
from switchnorm.ops.statistics import Table, check_statistics

Activation = Literal["relu"]
ACTIVATIONS = ("relu",)


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
    ghost: Ghost = None,
    group: dist.ProcessGroup | None = None,
    unbiased: bool = True,
    residual: Tensor | None = None,
    activation: Activation | None = None,
) -> Normalized:
    """Normalize x by a mixture of statistics (Switchable Normalization, eq. 2-3).

    y = activation((x - mean') / sqrt(var' + eps) * weight + bias + residual), where mean' is the sum of every
    statistic's mean times its importance, and var' likewise with importance of its own.

    Args:
        x: (N, C, *S).
        statistics: names among "instance", "layer", "batch", "group:G".
        mean_importance, var_importance: (K,), one weight per statistic, those of the mean summing to 1; may be left
            out for a single statistic.
        weight, bias: (C,) or None.
        eps: added to the variance.
        running: the (C,) mean and variance to use as the batch statistic instead of x's own.
        ghost: samples per group for the batch statistic, or a tuple of the sizes of consecutive groups, some of which
            may be empty; None pools the whole batch.
        group: processes over which the batch statistic is taken.
        unbiased: take SN's published variances (unbiased within a map, all others derived from these). Otherwise the
            population variance, as torch.nn's layers do.
        residual: of x's shape, added before the activation.
        activation: "relu" or None.

    Raises:
        InputError: statistics that are unknown or do not fit the channels, another number of importance weights than
            of statistics, the batch statistic alone over a single element per channel, `ghost` together with `group`
            or of groups that do not add up to the samples, a residual of another shape, or an unknown activation.
    """
    if ghost is not None and group is not None:
        raise InputError("ghost batches and synchronised statistics exclude each other; choose ghost or sync")
    check_activation(activation)
    check_input(x)
    check_residual(residual, x)
    check_devices(x, mean_importance, var_importance, weight, bias, *(running or ()))
    statistics = check_statistics(statistics, x.shape[1])
    for importance in (mean_importance, var_importance):
        given = 1 if importance is None else len(importance)
        if given != len(statistics):
            raise InputError(f"{len(statistics)} statistics need as many importance weights, got {given}")
    ghost = parts(ghost, x.shape[0])
    if running is not None or "batch" not in statistics:
        ghost = None  # no statistic is taken over samples
    if statistics == ("batch",) and running is None and group is None:
        check_batch(x, ghost)
    # A layer's eps may be a number that others cannot compute with.
    eps = eps if type(eps) is float else float(eps)
    rule = Rule(statistics, map_size(x), x.dim() == 2, eps, ghost, group, unbiased)
    operands = Operands(x, mean_importance, var_importance, weight, bias, residual, running)
    kernel = choose(x, mean_importance, var_importance, weight, bias, residual, *(running or ()))
    relu = activation == "relu"
    # Processes that share statistics must all take the same path, for their collective calls pair up; that includes one
    # without samples.
    if kernel is None or (x.numel() == 0 and group is None):
        return Normalized(*reference.normalize(operands, rule, relu))
    return Normalized(*autograd.normalize(kernel, operands, rule, relu))


def check_activation(activation: str | None) -> None:
    """Raise `InputError` for an activation that cannot be fused."""
    if activation is not None and activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)


def check_input(x: Tensor, role: str = "an input") -> None:
    """Raise `InputError` for what cannot be normalized: no tensor of one of `FLOATING`, or one that is not dense."""
    if isinstance(x, Tensor) and x.dtype in FLOATING and x.layout is torch.strided and not x.is_nested:
        return
    given: object = x
    if isinstance(given, fx.Proxy):
        raise InputError("torch.fx does not trace into a layer; trace a module that holds it, such as a Sequential")
    if not isinstance(x, Tensor) or x.dtype not in FLOATING:
        kind = str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"{role} must be a tensor of real numbers with fractions, such as float32, got {kind}")
    kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.").removeprefix("_")
    way = "unbind() gives its parts" if x.is_nested else "to_dense() makes one"
    raise InputError(f"{role} must be a dense tensor, got a {kind} one; its {way}")


def check_residual(residual: Tensor | None, x: Tensor) -> None:
    """Raise `InputError` for a residual that cannot be added to what x becomes."""
    if residual is None:
        return
    check_input(residual, "a residual")
    check_devices(x, residual)
    if residual.shape != x.shape:
        raise InputError(f"a residual must have the input's shape {tuple(x.shape)}, got {tuple(residual.shape)}")


def is_single(x: Tensor, ghost: Ghost = None) -> bool:
    """Whether some batch statistics of x (N, C, *S) would be those of a single element per channel."""
    return smallest_part(ghost, x.shape[0]) * map_size(x) == 1


def check_batch(x: Tensor, ghost: Ghost = None) -> None:
    """Raise `InputError` if batch statistics of x would be those of a single element per channel."""
    if is_single(x, ghost):
        raise InputError(
            f"batch statistics need more than one element per channel, got input {tuple(x.shape)}{in_words(ghost)}"
            "; use 2 or more samples, or add 'instance', 'layer' or 'group:G' to the statistics"
        )


def check_group(x: Tensor, groups: int) -> None:
    """Raise `InputError` if each statistic over a sample's `groups` of channels of x would be over a single value.

    The output would be the shift alone, whatever the input. Without channels or places there are no values at all.
    """
    if groups == x.shape[1] and map_size(x) == 1 and x.shape[0] > 0 and groups > 0:
        raise InputError(
            f"expected more than 1 value in each group of a sample when training, got input {tuple(x.shape)} in "
            f"{groups} group{'s' if groups > 1 else ''}; use fewer groups, larger maps, or a batch statistic"
        )
