"""What a fast path is: passes over maps, with the rule on tables between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from switchnorm.ops.rule import Rule, Statistic, derive, gradient, mix
from switchnorm.ops.statistics import Table


class Operands(NamedTuple):
    """The tensors that go into a normalization.

    Attributes:
        x: (N, C, *S), either contiguous or channels-last: in memory (N, C, L) or (N, L, C).
        mean_importance, var_importance: (K,), or None for a single statistic.
        weight, bias: (C,) or None.
        residual: laid out as x, added before ReLU; or None.
        running: (C,) tables of mean and variance to use as the batch statistic; or None.
    """

    x: Tensor
    mean_importance: Tensor | None
    var_importance: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None
    running: Table | None


class Forward(NamedTuple):
    """What a forward pass leaves.

    Attributes:
        y: laid out as x.
        batch_mean, batch_var: (C,) or None.
        saved: tables of at most (N, C) elements that the backward pass needs.
        notes: whatever else it needs that is no tensor.
    """

    y: Tensor
    batch_mean: Tensor | None
    batch_var: Tensor | None
    saved: tuple[Tensor, ...]
    notes: Any


class Gradients(NamedTuple):
    """Gradients of the operands, None where an operand was None."""

    x: Tensor
    mean_importance: Tensor | None
    var_importance: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None


class Kernel(ABC):
    """A fast path. Passes take inputs laid out as `Operands.x`, none of them empty, and tables (N, C).

    Attributes:
        name: as in `switchnorm.ops.kernel(name)`.
        keeps_output: whether the backward pass of ReLU reads y, which otherwise need not be kept.
    """

    name: ClassVar[str]

    @abstractmethod
    def refusal(self, x: Tensor) -> str | None:
        """Why this kernel cannot take x, for a sentence "... because REASON"; None where it can."""

    @abstractmethod
    def moments(self, x: Tensor) -> Table:
        """Mean and population variance of each map."""

    @abstractmethod
    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        """(x - centre) * scale + shift, in new memory laid out as x."""

    @abstractmethod
    def sums(self, dy: Tensor, x: Tensor, centre: Tensor) -> Table:
        """The sums over each map of dy and of dy * (x - centre)."""

    @abstractmethod
    def combine(self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """dy * a + (x - centre) * b + c, in new memory laid out as x."""

    def keeps_output(self, residual: bool) -> bool:
        """Whether the backward pass of ReLU, after a residual or not, reads y."""
        return True

    def forward(self, operands: Operands, rule: Rule, relu: bool) -> Forward:
        """Normalize: y = (x - mean) * rsqrt(var + eps) * weight + bias, then the residual and ReLU where asked for."""
        x = operands.x
        mean, var = _empty_tables(x) if x.numel() == 0 else self.moments(x)
        derived = derive(rule, mean, var, operands.running)
        mixed_mean = mix([s.mean for s in derived.statistics], operands.mean_importance)
        mixed_var = mix([s.var for s in derived.statistics], operands.var_importance)
        deviation = (mixed_var + rule.eps).rsqrt()
        scale = deviation if operands.weight is None else deviation * operands.weight.to(deviation.dtype)
        if x.numel() == 0:
            y = torch.empty_like(x)
        else:
            shift = None if operands.bias is None else operands.bias.to(mean.dtype)
            y = self.affine(x, (derived.pivot + mixed_mean).expand_as(mean), scale.expand_as(mean), shift)
        if operands.residual is not None:
            y += operands.residual
        if relu:
            y.relu_()
        tables = [table for statistic in derived.statistics for table in (statistic.mean, statistic.var)]
        saved = (mean, mixed_mean, deviation, scale, derived.mean, *tables)
        return Forward(y, derived.batch_mean, derived.batch_var, saved, [s.pool for s in derived.statistics])

    def backward(self, forward: Forward, operands: Operands, rule: Rule, relu: bool, dy: Tensor) -> Gradients:
        """The gradient of every operand.

        Args:
            forward: as `forward` left it; y only where `keeps_output` asked for it.
            operands, rule, relu: as in the forward pass.
            dy: laid out as x.
        """
        x = operands.x
        mean, mixed_mean, deviation, scale, relative_mean, *tables = forward.saved
        statistics = [Statistic(*each) for each in zip(tables[::2], tables[1::2], forward.notes, strict=True)]
        dz = torch.ops.aten.threshold_backward(dy, forward.y, 0) if relu else dy
        total, product = _empty_tables(x) if x.numel() == 0 else self.sums(dz, x, mean)
        # About the mixed mean, in place of the map's own.
        product = torch.addcmul(product, relative_mean - mixed_mean, total)
        normalized = product * deviation
        rule_gradient = gradient(
            rule,
            relative_mean,
            statistics,
            operands.mean_importance,
            operands.var_importance,
            -scale * total,
            normalized * (scale * deviation) * -0.5,
        )
        if x.numel() == 0:
            dx = torch.empty_like(x)
        else:
            a, b, c = scale.expand_as(mean), rule_gradient.var * (2 / rule.size), rule_gradient.mean / rule.size
            dx = self.combine(dz, a, x, mean, b, c)
        return Gradients(
            dx,
            rule_gradient.mean_importance,
            rule_gradient.var_importance,
            None if operands.weight is None else normalized.sum(0).to(operands.weight.dtype),
            None if operands.bias is None else total.sum(0).to(operands.bias.dtype),
            None if operands.residual is None else dz,
        )


def maps(x: Tensor) -> Tensor:
    """View x (N, C, *S), contiguous or channels-last, as (N, C, L) with strides (C L, L, 1) or (C L, 1, C)."""
    return x.flatten(2) if x.dim() > 2 else x[..., None]


def dense(x: Tensor) -> Tensor:
    """x itself where it is contiguous or channels-last, else a contiguous copy."""
    return x if x.is_contiguous() or _is_channels_last(x) else x.contiguous()


def like(t: Tensor, x: Tensor) -> Tensor:
    """t itself where it is laid out as x and of its dtype, else a copy that is."""
    if t.stride() == x.stride() and t.dtype == x.dtype:
        return t
    return torch.empty_like(x).copy_(t)


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() > 2 and x.movedim(1, -1).is_contiguous()


def _empty_tables(x: Tensor) -> Table:
    zeros = x.new_zeros(x.shape[:2], dtype=torch.promote_types(x.dtype, torch.float32))
    return zeros, zeros
