"""Projections onto the simplex: how logits of K normalizers become their importance.

Sparsemax: Martins & Astudillo, "From Softmax to Sparsemax", ICML 2016.
SparsestMax: Shao et al., "SSN: Learning Sparse Switchable Normalization via SparsestMax", CVPR 2019.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from switchnorm.errors import InputError, unknown

CENTRES = ("simplex", "support")


def sparsemax(z: Tensor) -> Tensor:
    """The point of the simplex that is nearest to z.

    Args:
        z: (..., K), finite.

    Returns:
        (..., K): non-negative, summing to 1 along the last dimension.
    """
    # An entry more than 1 below the largest is outside the support, however far: clamping it changes neither the
    # projection nor its gradient, and keeps the sums below from overflowing.
    z = (0.5 * z - 0.5 * z.amax(-1, keepdim=True).detach()).clamp(min=-1) * 2
    descending = z.sort(dim=-1, descending=True).values
    rank = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    support = 1 + rank * descending > descending.cumsum(-1)
    threshold = ((descending * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
    return (z - threshold).clamp(min=0)


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
        z: (..., K), finite.
        radius: Euclidean distance from the centre, in [0, 1]; a tensor must broadcast to (...), and is not checked,
            since that would wait for the device.
        centre: where the ball lies. "simplex": at (1/K, ..., 1/K), which makes this the projection. "support": at the
            centre of the face that sparsemax(z) lies on, which is what SSN's published code computes; it is the same
            wherever sparsemax(z) has no zero, hardens sooner where it has, and jumps in between.

    Returns:
        (..., K): non-negative, summing to 1 along the last dimension.

    Raises:
        InputError: a radius (given as a number) outside [0, 1], or an unknown centre.
    """
    if centre not in CENTRES:
        raise unknown("centre", centre, CENTRES)
    if not isinstance(radius, Tensor):
        radius = torch.as_tensor(check_radius(radius), dtype=z.dtype, device=z.device)
    squared_radius = radius.to(z.dtype).square()[..., None]
    nearest = sparsemax(z)
    ball = torch.ones_like(nearest, dtype=torch.bool) if centre == "simplex" else nearest > 0
    dimension = ball.sum(-1, keepdim=True).to(z.dtype)
    # A sum of squares, not a difference: near the centre, where training begins, rounding must not move a point inside.
    outside = ((nearest - 1 / dimension) * ball).square().sum(-1, keepdim=True) >= squared_radius
    return torch.where(outside, nearest, _sphere_maximum(z, squared_radius, dimension))


def check_radius(radius: float) -> float:
    """Return `radius` if it lies in [0, 1]; raise `InputError` otherwise."""
    if not 0 <= radius <= 1:
        nearest = 1.0 if radius > 1 else 0.0
        raise InputError(f"radius {radius} is outside [0, 1]; the nearest valid radius is {nearest}")
    return radius


def _sphere_maximum(z: Tensor, squared_radius: Tensor, dimension: Tensor) -> Tensor:
    """The point that maximises p·z on the sphere around the centre of the face of the `dimension` largest inputs.

    Args:
        z: (..., K).
        squared_radius, dimension: broadcasting to (..., 1).

    Returns:
        (..., K), on the simplex.
    """
    k = z.shape[-1]
    # Halves, so that no difference overflows; relative to a maximum of exactly 0, so that ties stay exact.
    ranked, order = (0.5 * z - 0.5 * z.amax(-1, keepdim=True).detach()).sort(dim=-1, descending=True)

    # Row s - 1 of each (K, K) table belongs to the face of the s largest inputs, so that tables are triangular. Only
    # the direction of the inputs counts: each face has its own scaled to [-1, 0].
    size = torch.arange(1, k + 1, device=z.device, dtype=z.dtype)[:, None]
    spread = -ranked.detach()[..., None]
    tied = spread == 0
    scale = spread.masked_fill(tied, 0.5)
    members = (ranked[..., None, :] / scale).tril()
    direction = (members - members.sum(-1, keepdim=True) / size).tril()
    norm = direction.square().sum(-1, keepdim=True).masked_fill(tied, 1).sqrt()
    squared_step = squared_radius[..., None] + (1 / dimension[..., None] - 1 / size)
    step = (squared_step.clamp(min=0).sqrt() / norm).masked_fill(tied, 1)
    points = (1 / size + direction * step).tril()

    feasible = (points >= 0).all(-1) & (size[:, 0] <= dimension)
    largest = (feasible * size[:, 0]).argmax(-1)[..., None, None]
    chosen = points.gather(-2, largest.expand(*largest.shape[:-1], k)).squeeze(-2)
    return torch.zeros_like(chosen).scatter(-1, order, chosen)
