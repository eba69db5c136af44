"""What a fast path is: passes over maps, with the rule on tables between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops.moments import accumulation_dtype, cast
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import Call, Final, Moved
from switchnorm.ops.rule import (
    Rule,
    Statistic,
    Weights,
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


class Moments(NamedTuple):
    """The moments of maps.

    Attributes:
        mean, var: (N, C).
        far: (N, 1), which samples have a map whose mean is so large, against its deviation, that sums of x instead of
            x - mean would lose digits. A bool stands for all samples; a kernel that loses none either way returns True.
    """

    mean: Tensor
    var: Tensor
    far: Tensor | bool


class Gradients(NamedTuple):
    """Gradients of the operands, None where an operand was None."""

    x: Tensor | None
    mean_importance: Tensor | None
    var_importance: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None


#: Of which of these five a `WholePass` may be asked for a gradient: of all.
ALL = (True,) * 5

#: Gradients of x, mean_logits, var_logits, weight and bias as a `WholePass` got them, None where one was None or is not
#: wanted, and dz, that of what ReLU got, where y was given. No named tuple, which a small layer feels.
PassGradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


class WholePass(Protocol):
    """A normalization from logits on, with its running statistics, in one call for each direction."""

    def forward(
        self,
        call: Call,
        x: Tensor,
        mean_logits: Tensor | None,
        var_logits: Tensor | None,
        final: Final | None,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        used: Table | None,
        moved: Moved | None,
        keeps: bool = True,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Any]:
        """Normalize.

        Args:
            call: what is done.
            x: (N, C, *S), contiguous or channels-last, not empty.
            mean_logits, var_logits: (K,), or both None for a single statistic. Like the tables that follow they have
                no gaps in memory; lengths, dtypes and devices are the callee's to check.
            final: where importance is SparsestMax.
            weight, bias: (C,) or None.
            residual: laid out as x, added before ReLU; or None.
            used: the mean and variance (C,) to use as the batch statistic.
            moved: running statistics that move towards those of the batch; excludes `used`.
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
        mean_logits: Tensor | None,
        var_logits: Tensor | None,
        final: Final | None,
        weight: Tensor | None,
        bias: Tensor | None,
        used: Table | None,
        wanted: Sequence[bool] = ALL,
    ) -> PassGradients:
        """All gradients.

        Args:
            call, x, mean_logits, var_logits, final, weight, bias, used: as `forward` got them.
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
    def moments(self, x: Tensor, factor: float) -> Moments:
        """The mean of each map, and `factor` times its population variance."""

    @abstractmethod
    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None, far: Tensor | bool) -> Tensor:
        """(x - centre) * scale + shift, in new memory laid out as x; shift is (C,), far is that of the moments."""

    @abstractmethod
    def scaled(self, dy: Tensor, scale: Tensor) -> Tensor:
        """dy * scale, in new memory laid out as dy."""

    @abstractmethod
    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor, far: Tensor | bool) -> Table:
        """The sums over each map of dy and of dy * (x - centre) * scale; far is that of the moments."""

    @abstractmethod
    def combine(
        self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor, far: Tensor | bool
    ) -> Tensor:
        """dy * a + (x - centre) * b + c, in new memory laid out as x; far is that of the moments."""

    def whole_pass(self, statistics: tuple[str, ...], ghost: Ghost, samples: int, averages: bool) -> WholePass | None:
        """How it computes a normalization by these statistics from logits on in one call; None where it does not.

        Args:
            statistics: as in `Rule`.
            ghost: the parts of the batch statistic; None where it is not computed from x.
            samples: N.
            averages: whether it moves running statistics to the average over all batches.
        """
        return None

    def weights(self, importance: Tensor | None, like: Tensor, factor: float = 1.0) -> Weights:
        """Importance (K,) times `factor`, a weight per statistic for tables of `like`'s dtype; None counts as 1."""
        return weights_of(importance, like, factor)

    def keeps_output(self, operands: Operands, rule: Rule) -> bool:
        """Whether the backward pass of ReLU reads y, which otherwise need not be kept."""
        return True

    def forward(self, operands: Operands, rule: Rule, relu: bool, keeps: bool) -> Forward:
        """Normalize: y = (x - mean) * rsqrt(var + eps) * weight + bias, then the residual and ReLU where asked for.

        Args:
            operands, rule, relu: what is computed.
            keeps: whether a backward pass may follow.
        """
        x, running = operands.x, operands.running
        mean, var, far = self._moments(operands, rule)
        pivot = None if far is False or fixed(rule, running) else pivot_of(rule, mean, running, far)
        derived = derive(rule, mean, var, running, pivot)
        mixed_mean = mix([s.mean for s in derived.statistics], self.weights(operands.mean_importance, mean))
        mixed_var = mix([s.var for s in derived.statistics], self.weights(operands.var_importance, mean))
        deviation = (mixed_var + rule.eps).rsqrt_()
        scale = deviation if operands.weight is None else deviation * cast(operands.weight, mean.dtype)
        centre = mixed_mean if pivot is None else mixed_mean + pivot
        if x.numel() == 0:
            y = torch.empty_like(x)
        else:
            shift = None if operands.bias is None else cast(operands.bias, mean.dtype)
            y = self.affine(x, _whole(centre, x), _whole(scale, x), shift, far)
        if operands.residual is not None:
            y += operands.residual
        if relu:
            y.relu_()
        tables = [table for statistic in derived.statistics for table in (statistic.mean, statistic.var)]
        saved = (mean, centre, deviation, scale, derived.mean, *tables)
        return Forward(y, derived.batch_mean, derived.batch_var, saved, (far, [s.pool for s in derived.statistics]))

    def _moments(self, operands: Operands, rule: Rule) -> Moments:
        x = operands.x
        if x.numel() == 0:
            return _no_moments(x)
        if operands.running is not None and fixed(rule, operands.running):
            # Running statistics alone need no moments. The maps are not read, so any of them may be far; the tables
            # are not used, and the running ones only stand in for them.
            mean, var = (cast(table, accumulation_dtype(x.dtype))[None] for table in operands.running)
            return Moments(mean, var, True)
        return self.moments(x, map_factor(rule))

    def backward(self, forward: Forward, operands: Operands, rule: Rule, relu: bool, dy: Tensor) -> Gradients:
        """The gradient of every operand.

        Args:
            forward: as `forward` left it; y only where `keeps_output` asked for it.
            operands, rule, relu: as in the forward pass.
            dy: laid out as x.
        """
        x = operands.x
        mean, centre, deviation, scale, relative_mean, *of_statistics = forward.saved
        far, pools = forward.notes
        statistics = [Statistic(*each) for each in zip(of_statistics[::2], of_statistics[1::2], pools, strict=True)]
        dz = torch.ops.aten.threshold_backward(dy, forward.y, 0) if relu else dy
        if x.numel() == 0:
            total, normalized = _no_moments(x)[:2]
        else:
            total, normalized = self.sums(dz, x, _whole(centre, x), _whole(deviation, x), far)
        # The gradient of the mixed mean is -1 times the first of these, of the mixed variance -1/2 times the second.
        # The derivative of a map's mean by one of its elements x is 1 / size (`share`), that of its variance is
        # 2 * map_factor (`unit`) times `share` times x - mean, by which `combine` multiplies.
        pulls = total * scale, normalized * (deviation * scale)
        share, unit = 1 / rule.size, 2 * map_factor(rule)
        weights = (
            self.weights(operands.mean_importance, mean, -share),
            self.weights(operands.var_importance, mean, -share / 2 * unit),
        )
        through = gradient(rule, relative_mean, statistics, *weights, *pulls, unit)
        if x.numel() == 0:
            dx = torch.empty_like(x)
        elif through is None:
            dx = self.scaled(dz, _whole(scale, x))
        else:
            of_mean, of_var = (_whole(table, x) for table in through)
            dx = self.combine(dz, _whole(scale, x), x, mean, of_var, of_mean, far)
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


def maps(x: Tensor) -> Tensor:
    """View x (N, C, *S), contiguous or channels-last, as (N, C, L) with strides (C L, L, 1) or (C L, 1, C)."""
    return x.flatten(2) if x.dim() > 2 else x[..., None]


#: By the number of dimensions.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def dense(x: Tensor) -> Tensor:
    """x itself where it is contiguous or channels-last, else a copy: channels-last where channels are neighbours."""
    if x.is_contiguous() or _is_channels_last(x):
        return x
    if x.dim() in _CHANNELS_LAST and x.stride(1) == 1 and x.shape[1] > 1:
        return x.contiguous(memory_format=_CHANNELS_LAST[x.dim()])
    return x.contiguous()


def like(t: Tensor, x: Tensor) -> Tensor:
    """t itself where it is laid out as x and of its dtype, else a copy that is."""
    # Strides of dimensions of size 1 are arbitrary, so that two contiguous tensors may differ in them.
    if t.dtype == x.dtype and ((t.is_contiguous() and x.is_contiguous()) or t.stride() == x.stride()):
        return t
    return torch.empty_like(x).copy_(t)


def packed(*tensors: Tensor | None) -> list[Tensor | None]:
    """The same tensors without gaps in memory."""
    return [t if t is None else t.contiguous() for t in tensors]


def packed_table(table: Table | None) -> Table | None:
    """As `packed`."""
    return None if table is None else (table[0].contiguous(), table[1].contiguous())


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() > 2 and x.movedim(1, -1).is_contiguous()


def _whole(table: Tensor, x: Tensor) -> Tensor:
    """A table that broadcasts against (N, C), expanded to it."""
    shape = x.shape[:2]
    return table if table.shape == shape else table.expand(shape)


def _no_moments(x: Tensor) -> Moments:
    zeros = x.new_zeros(x.shape[:2], dtype=accumulation_dtype(x.dtype))
    return Moments(zeros, zeros, False)
