"""Projections onto the simplex: how logits of K normalizers become their importance.

Sparsemax: Martins & Astudillo, "From Softmax to Sparsemax", ICML 2016.
SparsestMax: Shao et al., "SSN: Learning Sparse Switchable Normalization via SparsestMax", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from switchnorm.errors import InputError, unknown
from switchnorm.ops.kernels.choice import needs_plain_operations

CENTRES = ("simplex", "support")


def sparsemax(z: Tensor) -> Tensor:
    """The point of the simplex that is nearest to z.

    Args:
        z: (..., K).

    Returns:
        (..., K): non-negative, summing to 1 along the last dimension; NaN, and so its gradient, where an input along it
        is not finite.
    """
    return _differentiable(z, None, "simplex")


def sparsestmax(z: Tensor, radius: float | Tensor, centre: Literal["simplex", "support"] = "simplex") -> Tensor:
    """The point nearest to z on the simplex outside a ball of the given radius around its centre.

    With radius 0 this is sparsemax; from sqrt(1 - 1/K) on it is one-hot (SSN, section 3.3, there for K = 3).

    On the sphere that bounds the ball, |p - z|² = const - 2 p·z, so the projection maximises p·z. Restricted to the
    face of the s largest inputs, the maximiser lies from the face's centre in the direction of the centred inputs; if
    it has a negative entry, the best point of that face lies on a smaller one. The projection is therefore the explicit
    solution on the largest face where it is non-negative, for any K and without iterating.

    Where the inputs of a face are all equal it has no direction: the result stays at the centre of that face, inside
    the ball, and passes sparsemax's gradient, until something breaks the tie.

    Args:
        z: (..., K).
        radius: Euclidean distance from the centre, in [0, 1]; a tensor must broadcast to (...), and is not checked,
            since that would wait for the device. It receives no gradient.
        centre: where the ball lies. "simplex": at (1/K, ..., 1/K), which makes this the projection. "support": at the
            centre of the face that sparsemax(z) lies on, which is what SSN's published code computes; it is the same
            wherever sparsemax(z) has no zero, becomes one-hot sooner where it has one, and jumps where it gets one.

    Returns:
        (..., K): as of `sparsemax`.

    Raises:
        InputError: a radius (given as a number) outside [0, 1], or an unknown centre.
    """
    if centre not in CENTRES:
        raise unknown("centre", centre, CENTRES)
    if not isinstance(radius, Tensor):
        radius = torch.as_tensor(check_radius(radius), dtype=z.dtype, device=z.device)
    return _differentiable(z, radius.detach().to(z.dtype).square()[..., None], centre)


def check_radius(radius: float) -> float:
    """Return `radius` if it lies in [0, 1]; raise `InputError` otherwise."""
    given: Any = radius
    if not isinstance(given, Real) and (not isinstance(given, Tensor) or given.numel() != 1):
        raise InputError(f"radius {radius!r} is no number; those from 0 to 1 are valid, as 0.5")
    if not 0 <= radius <= 1:
        nearest = 1.0 if radius > 1 else 0.0
        raise InputError(f"radius {radius} is outside [0, 1]; the nearest valid radius is {nearest}")
    return radius


def interior(importance: Sequence[float], least: float | Sequence[float]) -> list[float]:
    """A point of the simplex away from its border: entries that are too small are raised, the others make room.

    Args:
        importance: K numbers on the simplex.
        least: what an entry below it, or below its own of K, becomes; together less than 1. The others keep their
            ratios.
    """
    floors = [least] * len(importance) if isinstance(least, float) else least
    raised = [floor if p < floor else 0.0 for p, floor in zip(importance, floors, strict=True)]
    rest = sum(p for p, floor in zip(importance, raised, strict=True) if not floor)
    return [floor or p * (1 - sum(raised)) / rest for p, floor in zip(importance, raised, strict=True)]


class _Projection(NamedTuple):
    """A projection p of z and what its gradient needs, each in the order of z.

    On a face of the simplex with s members, around whose centre p is on a sphere in the direction d (of length 1, or
    0 where there is no sphere), the Jacobian is slope * (I - 11'/s - dd') on the members, and 0 elsewhere.

    Attributes:
        point, direction: (..., K).
        members: (..., K), 0 or 1.
        slope: (..., 1).
    """

    point: Tensor
    members: Tensor
    direction: Tensor
    slope: Tensor


# The formulas, of tensors (..., K) here and of single numbers in `switchnorm.ops.importance`.
Value = TypeVar("Value", float, Tensor)


def halved(z: Value, largest: Value) -> Value:
    """z / 2 relative to the largest input: halves let no difference overflow, and a largest of 0 keeps ties exact."""
    return 0.5 * z - 0.5 * largest


def in_support(z: Value, rank: Value, total: Value) -> Any:
    """Whether sparsemax keeps the input of some rank, given the sum of all inputs up to it (Martins, proposition 1)."""
    return 1 + rank * z > total


def threshold(total: Value, support: Value) -> Value:
    """What sparsemax subtracts from the inputs of the support, given their sum and number."""
    return (total - 1) / support


def squared_step(squared_radius: Value, dimension: Value, size: Value) -> Value:
    """How far, squared, the sphere on a face of `size` members is from the face's centre.

    That is the radius without the part by which this centre is off the ball's, which is that of a face of `dimension`
    members: 1/size - 1/dimension, by Pythagoras.
    """
    return squared_radius + (1 / dimension - 1 / size)


def _differentiable(z: Tensor, squared_radius: Tensor | None, centre: str) -> Tensor:
    """The projection as one node of autograd's graph, or in plain operations where something traces these."""
    if needs_plain_operations(z):
        return _project(z, squared_radius, centre).point
    return _Project.apply(z, squared_radius, centre)


class _Project(torch.autograd.Function):
    """The gradient in closed form: a tenth of the operations that differentiating `_project` takes."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, squared_radius: Tensor | None, centre: str) -> Tensor:
        projection = _project(z, squared_radius, centre)
        ctx.save_for_backward(z, squared_radius, *projection[1:])
        ctx.centre = centre
        return projection.point

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        z, squared_radius, members, direction, slope = ctx.saved_tensors
        if torch.is_grad_enabled():
            point = _project(z, squared_radius, ctx.centre).point
            return (*torch.autograd.grad(point, z, grad, create_graph=True), None, None)
        grad = grad * members
        grad = torch.addcmul(grad, members, grad.sum(-1, keepdim=True) / members.sum(-1, keepdim=True), value=-1)
        along = (direction * grad).sum(-1, keepdim=True)
        return torch.addcmul(grad, direction, along, value=-1) * slope, None, None


def _project(z: Tensor, squared_radius: Tensor | None, centre: str) -> _Projection:
    """`sparsemax` where there is no radius, else `sparsestmax`."""
    ranked, order = halved(z, z.amax(-1, keepdim=True).detach()).sort(dim=-1, descending=True)
    nearest, support = _nearest(ranked)
    members, direction, slope = support, torch.zeros_like(nearest), torch.ones_like(nearest[..., :1])
    point = nearest
    if squared_radius is not None:
        ball = torch.ones_like(support) if centre == "simplex" else support
        dimension = ball.sum(-1, keepdim=True)
        # A sum of squares, not a difference: near the centre, where training begins, rounding must not move a point
        # inside.
        outside = ((nearest - 1 / dimension) * ball).square().sum(-1, keepdim=True) >= squared_radius
        if not _known_everywhere(outside):
            sphere = _sphere_maximum(ranked, squared_radius, dimension)
            point, members, direction, slope = (
                torch.where(outside, ours, theirs)
                for ours, theirs in zip((nearest, support, direction, slope), sphere, strict=True)
            )
    point, members, direction = (torch.zeros_like(t).scatter(-1, order, t) for t in (point, members, direction))
    finite = 1 + (z.detach() * 0).sum(-1, keepdim=True)  # 1, or NaN
    return _Projection(point * finite, members, direction, slope * finite)


def _known_everywhere(condition: Tensor) -> bool:
    """Whether a condition is known to hold everywhere.

    It is read only on a CPU, where that waits for nothing, and while neither a graph nor a trace is recorded; elsewhere
    the answer is False.
    """
    readable = condition.device.type == "cpu" and not torch.is_grad_enabled() and not needs_plain_operations(condition)
    return readable and bool(condition.all())


def _nearest(ranked: Tensor) -> tuple[Tensor, Tensor]:
    """Sparsemax of inputs in descending order, given as halves relative to the largest, and its support, 0 or 1."""
    # An entry more than 1 below the largest is outside the support, however far: clamping it changes neither the
    # projection nor its gradient, and keeps the sums below from overflowing.
    z = ranked.clamp(min=-1) * 2
    rank = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    support = in_support(z, rank, z.cumsum(-1)).to(z.dtype)
    cut = threshold((z * support).sum(-1, keepdim=True), support.sum(-1, keepdim=True))
    return (z - cut).clamp(min=0), support


def _sphere_maximum(ranked: Tensor, squared_radius: Tensor, dimension: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The point that maximises p·z on the sphere around the centre of the face of the `dimension` largest inputs.

    Args:
        ranked: (..., K), as for `_nearest`.
        squared_radius, dimension: broadcasting to (..., 1).

    Returns:
        The attributes of a `_Projection`, in the order of `ranked`.
    """
    k = ranked.shape[-1]
    # Row s - 1 of each (K, K) table belongs to the face of the s largest inputs, so that tables are triangular. Only
    # the direction of the inputs counts: each face has its own scaled to [-1, 0].
    size = torch.arange(1, k + 1, device=ranked.device, dtype=ranked.dtype)[:, None]
    spread = -ranked.detach()[..., None]
    tied = spread == 0
    scale = spread.masked_fill(tied, 0.5)
    inputs = (ranked[..., None, :] / scale).tril()
    centred = (inputs - inputs.sum(-1, keepdim=True) / size).tril()
    norm = centred.square().sum(-1, keepdim=True).masked_fill(tied, 1).sqrt()
    squared = squared_step(squared_radius[..., None], dimension[..., None], size)
    step = (squared.clamp(min=0).sqrt() / norm).masked_fill(tied, 1)
    points = (1 / size + centred * step).tril()

    feasible = (points >= 0).all(-1) & (size[:, 0] <= dimension)
    largest = (feasible * size[:, 0]).argmax(-1)[..., None, None]

    def chosen(table: Tensor) -> Tensor:
        return table.gather(-2, largest.expand(*largest.shape[:-1], table.shape[-1])).squeeze(-2)

    members = torch.ones_like(points).tril()
    # Two members on the sphere are where they are; roundings would be all of their gradient.
    slope = (step / (2 * scale)).masked_fill((size == 2) & ~tied, 0)
    return chosen(points), chosen(members), chosen(centred / norm), chosen(slope)
