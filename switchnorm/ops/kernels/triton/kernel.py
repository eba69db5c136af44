"""The Triton path as the other paths are: a `Kernel`."""

from __future__ import annotations

import functools
from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import (
    Forward,
    Gradients,
    Kernel,
    Moments,
    Operands,
    WholePass,
    like,
    packed,
    packed_table,
)
from switchnorm.ops.kernels.triton import fused, passes
from switchnorm.ops.kernels.triton.launch import INTERPRETING, on_device
from switchnorm.ops.kernels.triton.probe import failure
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import GIVEN, Call
from switchnorm.ops.rule import Rule
from switchnorm.ops.statistics import Table

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class TritonKernel(Kernel):
    """CUDA, in two launches per direction or one; around rules that are not fused, one for every pass over x."""

    name: ClassVar[str] = "triton"

    def refusal(self, x: Tensor) -> str | None:
        """It takes floating numbers on CUDA, and on the CPU in Triton's interpreter."""
        if not x.is_cuda and not (INTERPRETING and x.is_cpu):
            return f"the input is on {x.device.type}"
        if x.dtype not in _DTYPES:
            return f"it does not take {str(x.dtype).removeprefix('torch.')}"
        return failure(x.get_device()) if x.is_cuda else None

    def moments(self, x: Tensor, factor: float) -> Moments:
        """One launch, and the factor."""
        with on_device(x):
            mean, var = passes.moments(x).unbind()
        return Moments(mean, var.mul_(factor) if factor != 1 else var, True)

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None, far: Tensor | bool) -> Tensor:
        """One launch."""
        with on_device(x):
            return passes.affine(x, centre, scale, shift)

    def scaled(self, dy: Tensor, scale: Tensor) -> Tensor:
        """One launch."""
        with on_device(dy):
            return passes.affine(dy, torch.zeros_like(scale), scale, None)

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor, far: Tensor | bool) -> Table:
        """One launch, and the scale."""
        with on_device(x):
            total, product = passes.sums(dy, x, centre).unbind()
        return total, product.mul_(scale)

    def combine(
        self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor, far: Tensor | bool
    ) -> Tensor:
        """One launch."""
        with on_device(x):
            return passes.combine(dy, a, x, centre, b, c)

    def whole_pass(self, statistics: tuple[str, ...], ghost: Ghost, samples: int, averages: bool) -> WholePass | None:
        """For one process, equal parts of the batch, at most one way of grouping, and a share of each batch."""
        return fused if _holds(statistics, ghost, samples) and not averages else None

    def keeps_output(self, operands: Operands, rule: Rule) -> bool:
        """Where the rule is fused and there is no residual, the operations that gave y its sign are done again."""
        return operands.residual is not None or not _fused(operands, rule)

    def forward(self, operands: Operands, rule: Rule, relu: bool, keeps: bool) -> Forward:
        """Two launches or one where the rule is fused."""
        if not _fused(operands, rule):
            return super().forward(operands, rule, relu, keeps)
        x, mean, var, weight, bias, residual, running = operands
        assert not isinstance(rule.ghost, tuple)
        call = Call(rule.statistics, rule.eps, rule.ghost, rule.unbiased, relu, GIVEN, False)
        mean, var, weight, bias = packed(mean, var, weight, bias)
        used = packed_table(running)
        y, saved, batch, notes = fused.forward(call, x, mean, var, None, weight, bias, residual, used, None, keeps)
        batch_mean, batch_var = (None, None) if batch is None else batch.unbind()
        return Forward(y, batch_mean, batch_var, () if saved is None else (saved,), (call, notes))

    def backward(self, forward: Forward, operands: Operands, rule: Rule, relu: bool, dy: Tensor) -> Gradients:
        """As `forward`."""
        if not _fused(operands, rule):
            return super().backward(forward, operands, rule, relu, dy)
        x, mean, var, weight, bias, residual, running = operands
        y = like(forward.y, x) if relu and residual is not None else None
        mean, var, weight, bias = packed(mean, var, weight, bias)
        call, notes = forward.notes
        (saved,) = forward.saved
        used = packed_table(running)
        dx, of_mean, of_var, of_weight, of_bias, dz = fused.backward(
            call, notes, dy, x, y, saved, mean, var, None, weight, bias, used
        )
        # Without ReLU, dy is the residual's gradient as it is.
        of_residual = None if residual is None else dy if dz is None else dz
        return Gradients(dx, of_mean, of_var, of_weight, of_bias, of_residual)


def _fused(operands: Operands, rule: Rule) -> bool:
    """Whether the kernels hold this: one process, equal parts of the batch, at most one way of grouping."""
    x, mean, var, _, _, _, running = operands
    if rule.group is not None or (mean is None) != (var is None) or x.numel() == 0:
        return False
    return _holds(rule.statistics, None if running is not None else rule.ghost, x.shape[0])


@functools.lru_cache(maxsize=4096)
def _holds(statistics: tuple[str, ...], ghost: Ghost, samples: int) -> bool:
    if sum(name.startswith("group:") for name in statistics) > 1:
        return False
    if "batch" not in statistics or ghost is None:
        return True
    return not isinstance(ghost, tuple) and (ghost >= samples or samples % ghost == 0)
