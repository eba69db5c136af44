"""A switchable layer's whole pass as one call: importance, normalization and running statistics.

What `switchnorm.ops.normalize` does in steps around it costs a small layer as much as normalizing does. Here it is one
node of autograd's graph around a kernel that takes logits. Whatever no kernel holds so (`switch` returns None) goes the
longer way to the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from switchnorm.ops import reference
from switchnorm.ops.importance import importance_of
from switchnorm.ops.kernels.base import (
    CHANGED,
    FLOATING,
    Kernel,
    Operands,
    Tables,
    WholePass,
    check_devices,
    check_lengths,
)
from switchnorm.ops.kernels.choice import choose, needs_plain_gradient
from switchnorm.ops.kernels.layouts import dense, like
from switchnorm.ops.moments import cast, map_size, sum_dtype
from switchnorm.ops.normalize import check_residual
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import Call, Final, Moved, Projection, members
from switchnorm.ops.rule import Rule
from switchnorm.ops.statistics import Table

_NONE = (None, None)


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
        InputError: a residual of another shape, tensors of other devices or lengths.
    """
    running = used or moved or _NONE
    kind, final, tied = projection
    kernel = choose(x, mean_logits, var_logits, weight, bias, residual, running[0], running[1], *(final or ()))
    # Wrapped is what has outlived the transform of torch.func that it comes from; the longer way unwraps it.
    if kernel is None or not x.numel() or torch._C._functorch.is_functorch_wrapped_tensor(x):
        return None
    averages = moved is not None and moved.share < 0
    found = _found(kernel, statistics, ghost, used is not None, averages, x.shape[0], eps, relu, kind, tied)
    if found is None:
        return None
    if used is not None:
        used = (used[0].contiguous(), used[1].contiguous())
    elif moved is not None:
        mean, var, counter, _ = moved
        if not (mean.device == var.device == counter.device == x.device):
            check_devices(x, mean, var, counter)
        check_lengths("running statistics", x.shape[1], mean, var)
        if mean.dtype is not var.dtype or mean.dtype not in FLOATING:
            return None
        if counter.dtype is not torch.int64 or counter.numel() != 1:
            return None
        # Written past autograd, which shall notice that.
        if not (mean.is_contiguous() and var.is_contiguous()) or mean.is_inference() or var.is_inference():
            return None
    dtype = x.dtype
    if residual is not None:
        check_residual(residual, x)
        x = cast(x, sum_dtype(x, residual))
    x = dense(x)
    mean_logits, var_logits = mean_logits.contiguous(), var_logits.contiguous()
    if weight is not None:
        weight = weight.contiguous()
    if bias is not None:
        bias = bias.contiguous()
    whole, call = found
    if torch.is_grad_enabled():
        y: Tensor = _apply((whole, call, final, used, moved), x, mean_logits, var_logits, weight, bias, residual)
        return y if residual is None else cast(y, dtype)
    aligned = None if residual is None else like(residual, x)
    y = whole.forward(call, x, (mean_logits, var_logits, final, weight, bias, used), aligned, moved, False)[0]
    if moved is not None:
        increment_version(moved[:3])
    return y if residual is None else cast(y, dtype)


@functools.lru_cache(maxsize=4096)
def _found(
    kernel: Kernel,
    statistics: tuple[str, ...],
    ghost: Ghost,
    given: bool,
    averages: bool,
    samples: int,
    eps: float,
    relu: bool,
    kind: int,
    tied: bool,
) -> tuple[WholePass, Call] | None:
    """How a kernel does it, and what; None where it does not. Looked up, which is faster than made."""
    parts = None if given or "batch" not in statistics else ghost
    whole = kernel.whole_pass(statistics, parts, samples, averages)
    return None if whole is None else (whole, Call(statistics, eps, parts, True, relu, kind, tied))


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
        tables: Tables = (mean_logits, var_logits, final, weight, bias, used)
        y, saved, _, notes = whole.forward(call, x, tables, aligned, moved, True)
        if moved is not None:
            increment_version(moved[:3])
        ctx.save_for_backward(x, saved, y if residual is not None and call.relu else None)
        # Tables are too small for hooks of saved tensors, and cost a small layer less beside.
        ctx.call = whole, call, tables, _versions(tables), notes
        ctx.residual_dtype = None if residual is None else residual.dtype
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 7
        whole, call, tables, versions, notes = ctx.call
        x, saved, y = ctx.saved_tensors
        if x.shape != dy.shape or (y is not None and y.shape != dy.shape):
            raise RuntimeError(CHANGED)
        if versions != _versions(tables):
            raise RuntimeError(
                "a parameter or buffer of a normalization was modified by an inplace operation since its forward pass"
            )
        wanted = ctx.needs_input_grad[1:6]
        if needs_plain_gradient(dy):
            *found, dz = _plain_gradients(call, dy, y, x, tables, wanted)
        else:
            x = dense(x)
            dy, y = like(dy, x), None if y is None else like(y, x)
            *found, dz = whole.backward(call, notes, dy, x, y, saved, tables, wanted)
        if ctx.residual_dtype is None:
            return (None, *found, None)
        # Without ReLU, dy is the residual's gradient as it is.
        return (None, *found, cast(dy if dz is None else dz, ctx.residual_dtype))


#: `_Switch.apply` as C has it. Up to torch 2.11 there is Python around it, which takes as long as a launch does, and
#: which only torch.func needs.
_apply: Any = super(torch.autograd.Function, _Switch).apply


def _versions(tables: Tables) -> list[int]:
    """How often each was written in place; -1 for those of inference mode, which does not count."""
    mean_logits, var_logits, final, weight, bias, used = tables
    held = (mean_logits, var_logits, weight, bias, *(used or ()), *(final or ()))
    try:
        return [t._version for t in held if t is not None]
    except RuntimeError:
        return [-1 if t.is_inference() else t._version for t in held if t is not None]


def _plain_gradients(
    call: Call,
    dy: Tensor,
    y: Tensor | None,
    x: Tensor,
    tables: Tables,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs and dz by the reference, with a graph of their own where one is asked for."""
    mean, var, final, weight, bias, used = tables
    assert mean is not None
    assert var is not None
    inputs = (x, mean, var, weight, bias)
    flat = x.dim() == 2
    statistics = members(call.statistics, flat)
    with torch.enable_grad():
        if len(statistics) < len(call.statistics):
            kept = [call.statistics.index(name) for name in statistics]
            mean, var = (torch.stack([logits[k] for k in kept]) for logits in (mean, var))
        projection = Projection(call.projection, final, call.tied)
        importance = importance_of(mean, var, projection)
        rule = Rule(statistics, map_size(x), flat, call.eps, call.ghost, None, call.unbiased)
        again, *_ = reference.normalize(Operands(x, *importance, weight, bias, None, used), rule, relu=False)
    # y is kept wherever there was a residual. Where it was not, `again` is what ReLU was given.
    dz = dy * ((again if y is None else y) > 0) if call.relu else dy
    needed = [t if needs else None for t, needs in zip(inputs, wanted, strict=True)]
    leaves = [t for t in needed if t is not None]
    graph = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(again, leaves, dz, create_graph=graph, allow_unused=True) if leaves else ())
    return (*(None if t is None else next(found) for t in needed), dz)
