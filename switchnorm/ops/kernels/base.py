"""What a fast path is: passes over maps, with the rule on tables between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops.kernels.layouts import like, packed
from switchnorm.ops.moments import accumulation_dtype, cast
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import GIVEN, Call, Final, Moved
from switchnorm.ops.rule import (
    Rule,
    Statistic,
    derive,
    fixed,
    gradient,
    importance_gradient,
    map_factor,
    mix,
    pivot_of,
    weights_of,
)
from switchnorm.ops.statistics import Table

#: What is said where that is no longer what it was.
CHANGED = (
    "what a normalization kept for its gradient has changed since its forward pass, by a hook of saved tensors or an "
    "assignment to `.data`"
)


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
    """The result of a forward pass, and what the backward pass needs of it.

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

    x: Tensor | None
    mean_importance: Tensor | None
    var_importance: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None


#: What a `WholePass` takes beside x. No named tuple, which a small layer feels:
#:
#: - mean_logits, var_logits: (K,), or both None for a single statistic;
#: - final: where importance is SparsestMax;
#: - weight, bias: (C,) or None;
#: - used: the mean and variance (C,) to use as the batch statistic, or None.
#:
#: None has gaps in memory; lengths, dtypes and devices are the callee's to check.
Tables = tuple[Tensor | None, Tensor | None, Final | None, Tensor | None, Tensor | None, Table | None]

#: Of which of x, mean_logits, var_logits, weight and bias a `WholePass` may be asked for a gradient: of all.
ALL = (True,) * 5

#: Gradients of these five as a `WholePass` got them, None where one was None or is not wanted, and dz, the gradient of
#: what ReLU got, where y was given.
PassGradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


class WholePass(Protocol):
    """A normalization from logits on, with its running statistics, in one call for each direction."""

    def forward(
        self, call: Call, x: Tensor, tables: Tables, residual: Tensor | None, moved: Moved | None, keeps: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Any]:
        """Normalize.

        Args:
            call: what is done.
            x: (N, C, *S), contiguous or channels-last, not empty.
            tables: see `Tables`.
            residual: laid out as x, added before ReLU; or None.
            moved: running statistics that move towards those of the batch; excludes those to use.
            keeps: whether a backward pass may follow.

        Returns:
            y, laid out as x; a tensor that the backward pass needs, if one follows; the batch's mean and variance
            (2, C), or None where they are not computed, or moved running ones; and whatever else that pass needs.
        """

    def backward(
        self,
        call: Call,
        notes: Any,
        dy: Tensor,
        x: Tensor,
        y: Tensor | None,
        saved: Tensor,
        tables: Tables,
        wanted: Sequence[bool] = ALL,
    ) -> PassGradients:
        """All gradients.

        Args:
            call, x, tables: as `forward` got them.
            notes, saved: as `forward` returned them.
            dy: laid out as x.
            y: as `forward` returned it, where there was a residual and ReLU; else None.
            wanted: whether the gradients of x, the logits, weight and bias are asked for. Others may be found all the
                same.
        """


class Kernel(ABC):
    """A fast path. Passes take inputs laid out as `Operands.x`, none of them empty, and tables (N, C).

    Attributes:
        name: as in `switchnorm.ops.kernel(name)`.
        leaves_out: whether a pass looks at the importance, and does nothing for statistics that have none.
    """

    name: ClassVar[str]
    leaves_out: ClassVar[bool] = False

    @abstractmethod
    def refusal(self, x: Tensor) -> str | None:
        """Why this kernel cannot take x, for a sentence "... because REASON"; None where it can."""

    @abstractmethod
    def whole_pass(self, statistics: tuple[str, ...], ghost: Ghost, samples: int, averages: bool) -> WholePass | None:
        """How it computes a normalization by these statistics from logits on in one call; None where it does not.

        Args:
            statistics: as in `Rule`.
            ghost: the parts of the batch statistic; None where it is not computed from x.
            samples: N.
            averages: whether it moves running statistics to the average over all batches.
        """

    @abstractmethod
    def moments(self, x: Tensor) -> Table:
        """The mean and population variance of each map, of the dtype of tables."""

    @abstractmethod
    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        """(x - centre) * scale + shift, in new memory laid out as x; shift is (C,)."""

    @abstractmethod
    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor) -> Table:
        """The sums over each map of dy and of dy * (x - centre) * scale."""

    @abstractmethod
    def combine(self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """dy * a + (x - centre) * b + c, in new memory laid out as x."""

    def table_dtype(self, x: Tensor) -> torch.dtype:
        """The dtype of tables between passes over x."""
        return accumulation_dtype(x.dtype)

    def keeps_output(self, operands: Operands, rule: Rule) -> bool:
        """Whether the backward pass of ReLU reads y, which otherwise need not be kept.

        In one call, and without a residual, the operations that gave y its sign are done again.
        """
        return operands.residual is not None or self._at_once(operands, rule) is None

    def forward(self, operands: Operands, rule: Rule, relu: bool, keeps: bool) -> Forward:
        """Normalize: y = (x - mean) * rsqrt(var + eps) * weight + bias, then the residual and ReLU where asked for.

        Args:
            operands, rule, relu: what is computed.
            keeps: whether a backward pass may follow.
        """
        whole = self._at_once(operands, rule)
        if whole is None:
            return self._forward_in_passes(operands, rule, relu)
        call = Call(rule.statistics, rule.eps, rule.ghost, rule.unbiased, relu, GIVEN, False)
        y, saved, batch, notes = whole.forward(call, operands.x, _tables(operands), operands.residual, None, keeps)
        batch_mean, batch_var = (None, None) if batch is None else batch.unbind()
        return Forward(y, batch_mean, batch_var, () if saved is None else (saved,), (call, notes))

    def backward(self, forward: Forward, operands: Operands, rule: Rule, relu: bool, dy: Tensor) -> Gradients:
        """The gradient of every operand.

        Args:
            forward: as `forward` left it; y only where `keeps_output` asked for it.
            operands, rule, relu: as in the forward pass.
            dy: laid out as x.
        """
        whole = self._at_once(operands, rule)
        if whole is None:
            return self._backward_in_passes(forward, operands, rule, relu, dy)
        call, notes = forward.notes
        y = like(forward.y, operands.x) if relu and operands.residual is not None else None
        (saved,) = forward.saved
        given = whole.backward(call, notes, dy, operands.x, y, saved, _tables(operands))
        of_x, of_mean, of_var, of_weight, of_bias, dz = given
        # Without ReLU, dy is the residual's gradient as it is.
        of_residual = None if operands.residual is None else dy if dz is None else dz
        return Gradients(of_x, of_mean, of_var, of_weight, of_bias, of_residual)

    def _at_once(self, operands: Operands, rule: Rule) -> WholePass | None:
        """How it is one call; None where other processes have a part in it, or there is nothing to normalize."""
        x, mean, var, *_, running = operands
        computed = "batch" in rule.statistics and running is None
        if not x.numel() or (mean is None) != (var is None) or (computed and rule.group is not None):
            return None
        return self.whole_pass(rule.statistics, rule.ghost if computed else None, x.shape[0], False)

    def _forward_in_passes(self, operands: Operands, rule: Rule, relu: bool) -> Forward:
        x, running = operands.x, operands.running
        mean, var = self._moments(operands, rule)
        pivot = None if fixed(rule, running) else pivot_of(rule, mean, running)
        derived = derive(rule, mean, var, running, pivot)
        mixed_mean = mix([s.mean for s in derived.statistics], weights_of(operands.mean_importance, mean))
        # Out of range is what leaves that of the arithmetic of elements, however wide tables are.
        dtype = accumulation_dtype(x.dtype)
        variances = [cast(cast(s.var, dtype), mean.dtype) for s in derived.statistics]
        mixed_var = mix(variances, weights_of(operands.var_importance, mean))
        deviation = (mixed_var + rule.eps).rsqrt_()
        scale = deviation if operands.weight is None else deviation * cast(operands.weight, mean.dtype)
        centre = mixed_mean if pivot is None else mixed_mean + pivot
        if x.numel() == 0:
            y = torch.empty_like(x)
        else:
            shift = None if operands.bias is None else cast(operands.bias, mean.dtype)
            y = self.affine(x, _whole(centre, x), _whole(scale, x), shift)
        if operands.residual is not None:
            y += operands.residual
        if relu:
            y.relu_()
        tables = [table for statistic in derived.statistics for table in (statistic.mean, statistic.var)]
        saved = (mean, centre, deviation, scale, derived.mean, *tables)
        batch_mean, batch_var = (None if t is None else cast(t, dtype) for t in derived[2:])
        return Forward(y, batch_mean, batch_var, saved, [s.pool for s in derived.statistics])

    def _moments(self, operands: Operands, rule: Rule) -> Table:
        """The mean of each map, and the variance that the rule uses."""
        x = operands.x
        if x.numel() == 0:
            return self._no_sums(x)
        if operands.running is not None and fixed(rule, operands.running):
            # Running statistics alone need no moments. The maps are not read; the tables are not used, and the running
            # ones only stand in for them.
            mean, var = (cast(table, self.table_dtype(x))[None] for table in operands.running)
            return mean, var
        mean, var = self.moments(x)
        factor = map_factor(rule)
        return mean, var if factor == 1 else var.mul_(factor)

    def _no_sums(self, x: Tensor) -> Table:
        zeros = x.new_zeros(x.shape[:2], dtype=self.table_dtype(x))
        return zeros, zeros

    def _backward_in_passes(
        self, forward: Forward, operands: Operands, rule: Rule, relu: bool, dy: Tensor
    ) -> Gradients:
        x = operands.x
        mean, centre, deviation, scale, relative_mean, *of_statistics = forward.saved
        pools = forward.notes
        statistics = [Statistic(*each) for each in zip(of_statistics[::2], of_statistics[1::2], pools, strict=True)]
        dz = torch.ops.aten.threshold_backward(dy, forward.y, 0) if relu else dy
        if x.numel() == 0:
            total, normalized = self._no_sums(x)
        else:
            total, normalized = self.sums(dz, x, _whole(centre, x), _whole(deviation, x))
        # The gradient of the mixed mean is -1 times the first of these, of the mixed variance -1/2 times the second.
        # The derivative of a map's mean by one of its elements x is 1 / size (`share`), that of its variance is
        # 2 * map_factor (`unit`) times `share` times x - mean, by which `combine` multiplies.
        pulls = total * scale, normalized * (deviation * scale)
        share, unit = 1 / rule.size, 2 * map_factor(rule)
        weights = (
            weights_of(operands.mean_importance, mean, -share),
            weights_of(operands.var_importance, mean, -share / 2 * unit),
        )
        through = gradient(rule, relative_mean, statistics, *weights, *pulls, unit)
        if x.numel() == 0:
            dx = torch.empty_like(x)
        elif through is None:
            dx = self.affine(dz, torch.zeros_like(mean).expand(x.shape[:2]), _whole(scale, x), None)
        else:
            of_mean, of_var = (_whole(table, x) for table in through)
            dx = self.combine(dz, _whole(scale, x), x, mean, of_var, of_mean)
        return Gradients(
            dx,
            importance_gradient(operands.mean_importance, pulls[0], [s.mean for s in statistics], -1.0),
            importance_gradient(operands.var_importance, pulls[1], [s.var for s in statistics], -0.5),
            None if operands.weight is None else cast(normalized.sum(0), operands.weight.dtype),
            None if operands.bias is None else cast(total.sum(0), operands.bias.dtype),
            None if operands.residual is None else dz,
        )


def first_line(error: BaseException) -> str:
    """An error in one line: its kind, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


#: What kernels compute on, and which tables they read and write.
FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def refused(x: Tensor, here: bool) -> str | None:
    """Why a kernel that takes floating numbers cannot take x, which is on its device (`here`) or is not."""
    if not here:
        return f"the input is on {x.device.type}"
    if x.dtype not in FLOATING:
        return f"it does not take {str(x.dtype).removeprefix('torch.')}"
    return None


def check_lengths(kind: str, length: int, *tables: Tensor | None) -> None:
    """Raise `InputError` for a table that is shorter or longer than a kernel, who cannot see it, takes it to be."""
    for t in tables:
        if t is not None and t.numel() != length:
            raise InputError(f"{kind} of this input are tables of {length} numbers, got {tuple(t.shape)}")


def check_devices(x: Tensor, *others: Tensor | None) -> None:
    """Raise `InputError` for parameters and buffers on another device than x."""
    device = x.device
    for other in others:
        # The meta device takes numbers of the CPU, as everywhere in PyTorch.
        if other is not None and other.device != device and not x.is_meta:
            raise InputError(f"an input on {device} meets parameters on {other.device}; move one of them to the other")


def is_capturing(x: Tensor) -> bool:
    """Whether a CUDA graph is being captured on the current stream of x's device."""
    if not x.is_cuda:
        return False
    with torch.cuda.device(x.device):
        return torch.cuda.is_current_stream_capturing()


def _tables(operands: Operands) -> Tables:
    _, *given, _, running = operands
    mean, var, weight, bias = packed(*given)
    used = None if running is None else (running[0].contiguous(), running[1].contiguous())
    return mean, var, None, weight, bias, used


def _whole(table: Tensor, x: Tensor) -> Tensor:
    """A table that broadcasts against (N, C), expanded to it."""
    shape = x.shape[:2]
    return table if table.shape == shape else table.expand(shape)
