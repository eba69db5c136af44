"""The Triton path as the other paths are: a `Kernel`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import Forward, Gradients, Kernel, Moments, Operands
from switchnorm.ops.kernels.triton import library
from switchnorm.ops.kernels.triton.launch import INTERPRETING
from switchnorm.ops.rule import Rule
from switchnorm.ops.statistics import Table

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class TritonKernel(Kernel):
    """CUDA, in two launches per direction or one; around rules that are not fused, one for every pass over x."""

    name: ClassVar[str] = "triton"

    def refusal(self, x: Tensor) -> str | None:
        """It takes floating numbers on CUDA, and on the CPU in Triton's interpreter."""
        if not x.is_cuda and not (INTERPRETING and x.device.type == "cpu"):
            return f"the input is on {x.device.type}"
        if x.dtype not in _DTYPES:
            return f"it does not take {str(x.dtype).removeprefix('torch.')}"
        return None

    def moments(self, x: Tensor, factor: float) -> Moments:
        """One launch, and the factor."""
        mean, var = library.moments(x).unbind()
        return Moments(mean, var.mul_(factor) if factor != 1 else var, True)

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None, far: Tensor | bool) -> Tensor:
        """One launch."""
        return library.affine(x, centre, scale, shift)

    def scaled(self, dy: Tensor, scale: Tensor) -> Tensor:
        """One launch."""
        return library.affine(dy, torch.zeros_like(scale), scale, None)

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor, far: Tensor | bool) -> Table:
        """One launch, and the scale."""
        total, product = library.sums(dy, x, centre).unbind()
        return total, product.mul_(scale)

    def combine(
        self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor, far: Tensor | bool
    ) -> Tensor:
        """One launch."""
        return library.combine(dy, a, x, centre, b, c)

    def keeps_output(self, operands: Operands, rule: Rule) -> bool:
        """Where the rule is fused and there is no residual, the operations that gave y its sign are done again."""
        return operands.residual is not None or not _fused(operands, rule)

    def forward(self, operands: Operands, rule: Rule, relu: bool) -> Forward:
        """Two launches or one where the rule is fused."""
        if not _fused(operands, rule):
            return super().forward(operands, rule, relu)
        y, saved, batch = library.normalize(
            operands.x,
            *_packed(operands[1:5]),
            operands.residual,
            *_packed(operands.running or (None, None)),
            rule.statistics,
            rule.eps,
            rule.ghost,
            rule.unbiased,
            relu,
        )
        batch_mean, batch_var = batch.unbind() if len(batch) else (None, None)
        return Forward(y, batch_mean, batch_var, (saved,), None)

    def backward(self, forward: Forward, operands: Operands, rule: Rule, relu: bool, dy: Tensor) -> Gradients:
        """As `forward`."""
        if not _fused(operands, rule):
            return super().backward(forward, operands, rule, relu, dy)
        y = forward.y if relu and operands.residual is not None else None
        found = iter(
            library.gradients(
                dy,
                operands.x,
                y,
                *forward.saved,
                *_packed(operands[1:5]),
                *_packed(operands.running or (None, None)),
                rule.statistics,
                rule.ghost,
                rule.unbiased,
                relu,
            )
        )
        dx = next(found)
        mean_importance, var_importance, weight, bias = (None if t is None else next(found) for t in operands[1:5])
        # Without ReLU, dy is the residual's gradient as it is.
        residual = None if operands.residual is None else next(found, dy)
        return Gradients(dx, mean_importance, var_importance, weight, bias, residual)


def _fused(operands: Operands, rule: Rule) -> bool:
    """Whether the kernels hold this rule: one process, equal parts of the batch, at most one way of grouping."""
    x, mean_importance, var_importance, *_ = operands
    if x.numel() == 0 or sum(name.startswith("group:") for name in rule.statistics) > 1:
        return False
    if (mean_importance is None) != (var_importance is None):
        return False
    if "batch" not in rule.statistics or operands.running is not None:
        return True
    if rule.group is not None or isinstance(rule.ghost, tuple):
        return False
    return rule.ghost is None or rule.ghost >= len(x) or len(x) % rule.ghost == 0


def _packed(tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """The same one-dimensional tensors without gaps in memory."""
    return [None if t is None else t.contiguous() for t in tensors]
