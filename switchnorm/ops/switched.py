"""A switchable layer's whole pass as one call: importance, normalization and running statistics.

What `switchnorm.ops.normalize` does in steps around it costs a small layer as much as normalizing does. Here it is one
node of autograd's graph around a kernel that takes logits. Whatever no kernel holds so (`switch` returns None) goes the
longer way to the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from switchnorm.ops import reference
from switchnorm.ops.importance import importance_of
from switchnorm.ops.kernels.base import Final, Operands, WholePass, dense, like
from switchnorm.ops.kernels.choice import choose, needs_plain_gradient
from switchnorm.ops.moments import cast, map_size
from switchnorm.ops.normalize import check_residual
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import Call, Moved, Projection, members
from switchnorm.ops.rule import Rule
from switchnorm.ops.statistics import Table


def switch(
    x: Tensor,
    statistics: tuple[str, ...],
    mean_logits: Tensor,
    var_logits: Tensor,
    projection: Projection,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    used: Table | None,
    moved: Moved | None,
    ghost: Ghost,
    residual: Tensor | None,
    relu: bool,
) -> Tensor | None:
    """As `switchnorm.ops.normalize` with importance from logits, moving running statistics; None where it cannot be.

    Args:
        x: (N, C, *S).
        statistics: as a layer has checked them; a flat input leaves "instance" and its logits out.
        mean_logits, var_logits: (K,).
        projection: how these become importance.
        weight, bias: (C,) or None.
        eps: added to the variance.
        used: the running mean and variance (C,) in place of the batch's statistics.
        moved: what is moved towards the batch's statistics.
        ghost: the parts of the batch, as `switchnorm.ops.partition.parts` gives them.
        residual: of x's shape, or None.
        relu: whether ReLU follows.

    Raises:
        InputError: a residual of another shape, tensors of other devices.
    """
    kernel = choose(x, mean_logits, var_logits, weight, bias, residual, *(moved or ())[:3])
    if kernel is None or not x.numel():
        return None
    parts = ghost if used is None and "batch" in statistics else None
    whole = kernel.whole_pass(statistics, parts, x.shape[0])
    if whole is None:
        return None
    assert not isinstance(parts, tuple)
    kind, radius, mean_fixed, var_fixed, tied = projection
    final = None
    if radius is not None and mean_fixed is not None and var_fixed is not None:
        final = (mean_fixed, var_fixed, radius)
    if moved is not None:
        mean, var, _, _ = moved
        # Written past autograd, which shall notice that.
        if not (mean.is_contiguous() and var.is_contiguous()) or mean.is_inference() or var.is_inference():
            return None
    if used is not None:
        used = (used[0].contiguous(), used[1].contiguous())
    if residual is not None:
        check_residual(residual, x)
    tables = [t if t is None or t.is_contiguous() else t.contiguous() for t in (mean_logits, var_logits, weight, bias)]
    call = Call(statistics, eps, parts, True, relu, kind, tied)
    y: Tensor = _Switch.apply((whole, call, final, used, moved), dense(x), *tables, residual)
    return y


class _Switch(torch.autograd.Function):
    """A pass as one node of autograd's graph, which keeps x and tables; y only behind a residual and ReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        given: tuple[WholePass, Call, Final | None, Table | None, Moved | None],
        x: Tensor,
        mean_logits: Tensor,
        var_logits: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
    ) -> Tensor:
        whole, call, final, used, moved = given
        aligned = None if residual is None else like(residual, x)
        y, saved, _, notes = whole.forward(call, x, mean_logits, var_logits, final, weight, bias, aligned, used, moved)
        if moved is not None:
            increment_version(moved[:3])
        kept = y if residual is not None and call.relu else None
        others = (*(final or (None, None, None)), *(used or (None, None)))
        ctx.save_for_backward(x, mean_logits, var_logits, weight, bias, saved, kept, *others)
        ctx.call = whole, call, notes, None if residual is None else residual.dtype
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 7
        whole, call, notes, residual_dtype = ctx.call
        x, mean_logits, var_logits, weight, bias, saved, y, mean_fixed, *final, used_mean, used_var = ctx.saved_tensors
        fixed = None if mean_fixed is None else (mean_fixed, *final)
        used = None if used_mean is None else (used_mean, used_var)
        if needs_plain_gradient(dy):
            inputs = (x, mean_logits, var_logits, weight, bias)
            *found, dz = _plain_gradients(call, dy, y, inputs, fixed, used, ctx.needs_input_grad[1:6])
        else:
            dy, y = like(dy, x), None if y is None else like(y, x)
            *found, dz = whole.backward(
                call, notes, dy, x, y, saved, mean_logits, var_logits, fixed, weight, bias, used
            )
        if residual_dtype is None:
            return (None, *found, None)
        # Without ReLU, dy is the residual's gradient as it is.
        return (None, *found, cast(dy if dz is None else dz, residual_dtype))


def _plain_gradients(
    call: Call,
    dy: Tensor,
    y: Tensor | None,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None],
    final: Final | None,
    used: Table | None,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs and dz by the reference, with a graph of their own where one is asked for."""
    x, mean, var, weight, bias = inputs
    mean_fixed, var_fixed, radius = final or (None, None, None)
    flat = x.dim() == 2
    statistics = members(call.statistics, flat)
    with torch.enable_grad():
        if len(statistics) < len(call.statistics):
            kept = [call.statistics.index(name) for name in statistics]
            mean, var = (torch.stack([logits[k] for k in kept]) for logits in (mean, var))
        projection = Projection(call.projection, radius, mean_fixed, var_fixed, call.tied)
        importance = importance_of(mean, var, projection)
        rule = Rule(statistics, map_size(x), flat, call.eps, call.ghost, None, call.unbiased)
        again, *_ = reference.normalize(Operands(x, *importance, weight, bias, None, used), rule, relu=False)
    # y is kept wherever there was a residual. Where it was not, `again` is what ReLU was given.
    dz = dy * ((again if y is None else y) > 0) if call.relu else dy
    needed = [t if need else None for t, need in zip(inputs, needs, strict=True)]
    leaves = [t for t in needed if t is not None]
    graph = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(again, leaves, dz, create_graph=graph, allow_unused=True) if leaves else ())
    return (*(None if t is None else next(found) for t in needed), dz)
