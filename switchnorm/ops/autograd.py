"""A fast path as one differentiable operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchnorm.ops import reference
from switchnorm.ops.kernels.base import CHANGED, Forward, Kernel, Operands
from switchnorm.ops.kernels.choice import needs_plain_gradient
from switchnorm.ops.kernels.layouts import dense, like
from switchnorm.ops.moments import cast, sum_dtype
from switchnorm.ops.rule import Rule
from switchnorm.ops.statistics import Table


def normalize(
    kernel: Kernel, operands: Operands, rule: Rule, relu: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `reference.normalize`, by a kernel; x and the residual may be in any memory format."""
    x, residual = operands.x, operands.residual
    # A copy is part of the graph, so that second derivatives reach what was copied.
    operands = operands._replace(x=dense(cast(x, sum_dtype(x, residual))))
    if torch.is_grad_enabled():
        y, batch_mean, batch_var = _Normalize.apply(kernel, rule, relu, operands.running, *operands[:6])
    else:
        aligned = None if residual is None else like(residual, operands.x)
        y, batch_mean, batch_var, *_ = kernel.forward(operands._replace(residual=aligned), rule, relu, keeps=False)
    return cast(y, x.dtype), batch_mean, batch_var


class _Normalize(torch.autograd.Function):
    """A normalization as one node of autograd's graph.

    It keeps x and (N, C) tables for the backward pass. Where ReLU's gradient needs y it keeps y too, at no cost: the
    next layer keeps the same tensor as its own input.
    """

    @staticmethod
    def forward(
        ctx: Any,
        kernel: Kernel,
        rule: Rule,
        relu: bool,
        running: Table | None,
        x: Tensor,
        mean_importance: Tensor | None,
        var_importance: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        given = mean_importance, var_importance, weight, bias
        aligned = None if residual is None else like(residual, x)
        operands = Operands(x, *given, aligned, running)
        forward = kernel.forward(operands, rule, relu, keeps=True)
        y = forward.y if relu and kernel.keeps_output(operands, rule) else None
        ctx.save_for_backward(x, *given, *(running or (None, None)), y, *forward.saved)
        ctx.call = kernel, rule, relu
        ctx.residual_dtype = None if residual is None else residual.dtype
        ctx.notes = forward.notes
        ctx.set_materialize_grads(False)
        if forward.batch_mean is not None:
            ctx.mark_non_differentiable(forward.batch_mean, forward.batch_var)
        return forward.y, forward.batch_mean, forward.batch_var

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 10
        kernel, rule, relu = ctx.call
        x, mean_importance, var_importance, weight, bias, running_mean, running_var, y, *saved = ctx.saved_tensors
        if x.shape != dy.shape or (y is not None and y.shape != dy.shape):
            raise RuntimeError(CHANGED)
        running = None if running_mean is None else (running_mean, running_var)
        # The backward pass only asks whether there was a residual, so x stands in for it.
        residual = None if ctx.residual_dtype is None else x
        operands = Operands(x, mean_importance, var_importance, weight, bias, residual, running)
        gradients: tuple[Tensor | None, ...]
        if needs_plain_gradient(dy):
            gradients = _differentiable_gradients(ctx, y, dy, operands)
        else:
            operands = operands._replace(x=dense(x))
            forward = Forward(y, None, None, tuple(saved), ctx.notes)
            gradients = kernel.backward(forward, operands, rule, relu, like(dy, operands.x))
        *of_given, of_residual = gradients
        if of_residual is not None:
            of_residual = of_residual.to(ctx.residual_dtype)
        return (None, None, None, None, *of_given, of_residual)


def _differentiable_gradients(ctx: Any, y: Tensor | None, dy: Tensor, operands: Operands) -> tuple[Tensor | None, ...]:
    """Gradients by the reference, with a graph of their own where one is asked for."""
    _, rule, relu = ctx.call
    with torch.enable_grad():
        again, *_ = reference.normalize(operands._replace(residual=None), rule, relu=False)
    dz = dy
    if relu:
        # y is kept wherever there was a residual. Where it was not, `again` is what ReLU was given.
        dz = dy * ((again if y is None else y) > 0)
    needed = [
        t if t is not None and needs else None for t, needs in zip(operands[:5], ctx.needs_input_grad[4:9], strict=True)
    ]
    leaves = [t for t in needed if t is not None]
    graph = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(again, leaves, dz, create_graph=graph, allow_unused=True) if leaves else ())
    of_operands = [None if t is None else next(found) for t in needed]
    return (*of_operands, None if operands.residual is None else dz)
