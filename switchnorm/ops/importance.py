"""Importance: softmax or SparsestMax of two sets of logits; of the latter, choices that are final pass no gradient.

On a CPU the few logits of a layer are projected as Python numbers: forward and backward, a tensor operation for every
step of the projection would take longer than normalizing a small input. What differs from `switchnorm.ops.simplex` is
that numbers can be looked at, so that the search for the face ends where it is found; the formulas are the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from switchnorm.ops.kernels.choice import needs_plain_gradient, needs_plain_operations
from switchnorm.ops.moments import accumulation_dtype, cast
from switchnorm.ops.projection import GIVEN, SOFTMAX, SPARSE_SIMPLEX, Projection
from switchnorm.ops.simplex import halved, in_support, sparsestmax, squared_step, threshold


def importance_of(mean: Tensor, var: Tensor, projection: Projection) -> tuple[Tensor, Tensor]:
    """The importance that logits become, in float32 at least.

    Args:
        mean, var: (K,) logits.
        projection: how.
    """
    kind, final, tied = projection
    if kind == GIVEN:
        return mean, var
    mean, var = (cast(logits, accumulation_dtype(logits.dtype)) for logits in (mean, var))
    if tied:
        mean = var = (mean + var) / 2
    if kind == SOFTMAX:
        return softmax_importance(mean, var)
    assert final is not None
    centre: Literal["simplex", "support"] = "simplex" if kind == SPARSE_SIMPLEX else "support"
    return sparse_importance(mean, var, *final, centre)


def softmax_importance(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of the logits (K,) of mean and variance.

    On a CPU it is taken in float64 and rounded once, so that a layer reports the very numbers that it computes with
    (`switchnorm.ops.switched`).
    """
    if _readable(mean, var):
        of_mean, of_var = (logits.softmax(0, dtype=torch.float64).to(logits.dtype) for logits in (mean, var))
        return of_mean, of_var
    return mean.softmax(0), var.softmax(0)


def sparse_importance(
    mean: Tensor,
    var: Tensor,
    mean_fixed: Tensor,
    var_fixed: Tensor,
    radius: Tensor,
    centre: Literal["simplex", "support"],
) -> tuple[Tensor, Tensor]:
    """SparsestMax of the logits of mean and variance.

    Args:
        mean, var: (K,) logits; where one is not finite, all of its importance and gradient is NaN.
        mean_fixed, var_fixed: (1,), above 0 where the choice is final: it is the largest logit's, as at a radius of 1,
            and the logits receive a gradient of zero.
        radius: (1,), in [0, 1]; see `switchnorm.ops.sparsestmax`, also for `centre`.

    Returns:
        Two (K,) tensors on the simplex, of the dtype of the logits.
    """
    arguments = (mean, var, mean_fixed, var_fixed, radius, centre)
    if not _readable(mean, var):
        return _plain(*arguments)
    of_mean, of_var = _OnNumbers.apply(*arguments)
    return of_mean, of_var


def _readable(mean: Tensor, var: Tensor) -> bool:
    """Whether the logits may be read as Python numbers: no device to wait for, and nothing that traces operations."""
    return mean.device.type == "cpu" and not needs_plain_operations(mean, var)


def _plain(
    mean: Tensor,
    var: Tensor,
    mean_fixed: Tensor,
    var_fixed: Tensor,
    radius: Tensor,
    centre: Literal["simplex", "support"],
) -> tuple[Tensor, Tensor]:
    """The projections in tensor operations, which read no number back from the device."""
    if mean.device.type == "meta":  # shapes alone, for which these dozens of operations take a millisecond each
        return mean.softmax(0), var.softmax(0)
    fixed = torch.stack((mean_fixed, var_fixed)) > 0
    radii = torch.where(fixed, 1, radius.to(mean.dtype)).squeeze(1)
    importance = sparsestmax(torch.stack((mean, var)), radii, centre)
    # Masked, not detached: the logits stay in the graph, where distributed training expects every parameter.
    of_mean, of_var = torch.where(fixed, importance.detach(), importance).unbind()
    return of_mean, of_var


class _OnNumbers(torch.autograd.Function):
    """Both projections and their gradients as one node."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, var: Tensor, mean_fixed: Tensor, var_fixed: Tensor, radius: Tensor, centre: str
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(mean, var, mean_fixed, var_fixed, radius)
        ctx.centre = centre
        ctx.set_materialize_grads(False)
        final = [fixed.item() > 0 for fixed in (mean_fixed, var_fixed)]
        faces = [
            _project(logits.tolist(), 1.0 if fixed else radius.item() ** 2, centre)
            for logits, fixed in zip((mean, var), final, strict=True)
        ]
        ctx.faces = [None if fixed else face for face, fixed in zip(faces, final, strict=True)]
        return tuple(_like(face.point, mean) for face in faces)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        logits = ctx.saved_tensors[:2]
        found: Sequence[Tensor | None]
        if needs_plain_gradient(*grads):
            mean, var, mean_fixed, var_fixed, radius = ctx.saved_tensors
            with torch.enable_grad():
                again = _plain(mean, var, mean_fixed, var_fixed, radius, ctx.centre)
            pairs = zip(again, grads, strict=True)
            outputs, given = zip(*[pair for pair in pairs if pair[1] is not None], strict=True)
            needed = [t for t, needs in zip(logits, ctx.needs_input_grad, strict=False) if needs]
            graph = torch.is_grad_enabled()
            each = iter(torch.autograd.grad(outputs, needed, given, create_graph=graph, allow_unused=True))
            found = [next(each) if needs else None for needs in ctx.needs_input_grad[:2]]
        else:
            found = [
                None if grad is None else torch.zeros_like(grad) if face is None else _like(face.pull(grad), grad)
                for face, grad in zip(ctx.faces, grads, strict=True)
            ]
        return (*found, None, None, None, None)


def _like(numbers: list[float], t: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=t.dtype, device=t.device)


class _Face(NamedTuple):
    """A projected point, and the face of the simplex around it, as `switchnorm.ops.simplex` describes its Jacobian.

    Attributes:
        point: K numbers.
        members: indices of the face's members.
        direction: for each member.
        slope: of the projection along the face.
    """

    point: list[float]
    members: list[int]
    direction: list[float]
    slope: float

    def pull(self, grad: Tensor) -> list[float]:
        """The gradient of the logits, given that of the point."""
        given = grad.tolist()
        of_members = [given[k] for k in self.members]
        mean = sum(of_members) / len(of_members)
        along = sum(d * (g - mean) for d, g in zip(self.direction, of_members, strict=True))
        found = [0.0] * len(given)
        for k, d, g in zip(self.members, self.direction, of_members, strict=True):
            found[k] = self.slope * (g - mean - d * along)
        return found


def _project(logits: list[float], squared_radius: float, centre: str) -> _Face:
    """`switchnorm.ops.sparsestmax` of a few numbers."""
    if not all(map(math.isfinite, (*logits, squared_radius))):
        # A training that diverges shall see it in its loss.
        return _Face([math.nan] * len(logits), [*range(len(logits))], [0.0] * len(logits), math.nan)
    order = sorted(range(len(logits)), key=lambda k: -logits[k])
    ranked = [halved(logits[k], logits[order[0]]) for k in order]
    nearest = _nearest(ranked)
    support = len(nearest)
    dimension = len(ranked) if centre == "simplex" else support
    distances = [p - 1 / dimension for p in nearest] + [-1 / dimension] * (dimension - support)
    if sum(d * d for d in distances) >= squared_radius:
        found, direction, slope = nearest, [0.0] * support, 1.0
    else:
        found, direction, slope = _sphere_maximum(ranked[:dimension], squared_radius)
    point = [0.0] * len(logits)
    for k, p in zip(order, found, strict=False):
        point[k] = p
    return _Face(point, order[: len(found)], direction, slope)


def _nearest(ranked: list[float]) -> list[float]:
    """The entries of sparsemax that are not 0.

    Args:
        ranked: the inputs in descending order, as halves of their differences from the largest.
    """
    total, support = 0.0, 0
    inputs = [2 * max(half, -1.0) for half in ranked]
    for z in inputs:
        if not in_support(z, support + 1, total + z):
            break
        total, support = total + z, support + 1
    cut = threshold(total, support)
    return [z - cut for z in inputs[:support]]


def _sphere_maximum(ranked: list[float], squared_radius: float) -> tuple[list[float], list[float], float]:
    """The projection outside the ball: the point of its surface that has the largest product with the inputs.

    It is taken on the largest face of the simplex where that point has no negative entry.

    Args:
        ranked: the inputs of the face in whose centre the ball lies, as for `_nearest`.
        squared_radius: of the ball.

    Returns:
        The point's members, its direction from the centre, and the slope.
    """
    for size in range(len(ranked), 1, -1):
        spread = -ranked[size - 1]
        if spread == 0:
            return [1 / size] * size, [0.0] * size, 1.0
        inputs = [each / spread for each in ranked[:size]]
        mean = sum(inputs) / size
        centred = [each - mean for each in inputs]
        norm = math.sqrt(sum(each * each for each in centred))
        step = math.sqrt(max(0.0, squared_step(squared_radius, len(ranked), size))) / norm
        point = [1 / size + each * step for each in centred]
        if min(point) >= 0:
            # Two members on the sphere are where they are; roundings would be all of their gradient.
            slope = 0.0 if size == 2 else step / (2 * spread)
            return point, [each / norm for each in centred], slope
    return [1.0], [0.0], 1.0
