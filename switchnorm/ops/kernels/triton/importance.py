"""Importance from logits, and its gradient, on the device: softmax or SparsestMax of at most four numbers.

The formulas are those of `switchnorm.ops.simplex`, where they are explained, on tables of four by four: instead of
being sorted, each logit is compared with all others. Logits whose bit in MEMBERS is 0 take no part. One program of a
launch does this, so that it costs the others nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: How importance comes about: as given, by softmax, by SparsestMax around the simplex's or the support's centre.
GIVEN, SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT = (tl.constexpr(kind) for kind in range(4))


@triton.jit
def _members(MEMBERS):
    """Which of four logits take part."""
    return (MEMBERS >> tl.arange(0, 4)) & 1 == 1


@triton.jit
def _load(logits, CHOICE, ACC):
    """Both sets of logits (4,), the radius of each, and whether each choice is final, 0 or 1."""
    inside = _members(CHOICE.MEMBERS)
    mean = tl.load(logits.mean + tl.arange(0, 4), mask=inside, other=0).to(ACC)
    var = tl.load(logits.var + tl.arange(0, 4), mask=inside, other=0).to(ACC)
    if CHOICE.TIED:
        mean = (mean + var) / 2
        var = mean
    mean_final = tl.full((), 0, tl.int32)
    var_final = tl.full((), 0, tl.int32)
    radius = tl.full((), 0, ACC)
    if CHOICE.PROJECTION >= SPARSE_SIMPLEX:
        mean_final = (tl.load(logits.mean_fixed) > 0).to(tl.int32)
        var_final = (tl.load(logits.var_fixed) > 0).to(tl.int32)
        radius = tl.load(logits.radius).to(ACC)
    return mean, var, tl.where(mean_final > 0, 1, radius), tl.where(var_final > 0, 1, radius), mean_final, var_final


@triton.jit
def _project(z, radius, CHOICE):
    """The point (4,) of the simplex for logits z, and the face around it: members, direction (4,), and the slope.

    Softmax has a point alone.
    """
    inside = _members(CHOICE.MEMBERS)
    largest = tl.max(tl.where(inside, z, float("-inf")), 0)
    finite = 1 + tl.sum(tl.where(inside, z * 0, 0), 0) + radius * 0  # 1, or NaN
    if CHOICE.PROJECTION == GIVEN:
        point, members, direction, slope = z, z, z, finite
    elif CHOICE.PROJECTION == SOFTMAX:
        powers = tl.where(inside, tl.exp(z - largest), 0)
        point, members, direction, slope = powers / tl.sum(powers, 0), z, z, finite
    else:
        count = tl.sum(inside.to(z.dtype), 0)
        place = tl.arange(0, 4)
        half = tl.where(inside, 0.5 * z - 0.5 * largest, float("-inf"))
        # Before each entry, down, come those above it, across; of equal ones the first.
        ahead = half[None, :] > half[:, None]
        ahead = ahead | ((half[None, :] == half[:, None]) & (place[None, :] < place[:, None]))
        rank = 1 + tl.sum(ahead.to(z.dtype), 1)
        clamped = 2 * tl.maximum(half, -1)
        total = clamped + tl.sum(tl.where(ahead, clamped[None, :], 0), 1)
        support = inside & (1 + rank * clamped > total)
        size = tl.sum(support.to(z.dtype), 0)
        cut = (tl.sum(tl.where(support, clamped, 0), 0) - 1) / size
        nearest = tl.where(support, tl.maximum(clamped - cut, 0), 0)
        ball, dimension = inside, count
        if CHOICE.PROJECTION == SPARSE_SUPPORT:
            ball, dimension = support, size
        apart = tl.where(ball, nearest - 1 / dimension, 0)
        outside = tl.sum(apart * apart, 0) >= radius * radius
        # Down: faces of 1 to 4 members. Across: entries.
        sizes = (1 + place).to(z.dtype)[:, None]
        face = rank[None, :] <= sizes
        spread = tl.sum(tl.where(rank[None, :] == sizes, tl.where(inside, -half, 0)[None, :], 0), 1)[:, None]
        tied = spread == 0
        scale = tl.where(tied, 0.5, spread)
        inputs = tl.where(face & inside[None, :], half[None, :] / scale, 0)
        centred = tl.where(face, inputs - tl.sum(inputs, 1)[:, None] / sizes, 0)
        norm = tl.sqrt(tl.where(tied, 1, tl.sum(centred * centred, 1)[:, None]))
        squared = radius * radius + (1 / dimension - 1 / sizes)
        step = tl.where(tied, 1, tl.sqrt(tl.maximum(squared, 0)) / norm)
        points = tl.where(face, 1 / sizes + centred * step, 0)
        feasible = (tl.min(points, 1)[:, None] >= 0) & (sizes <= dimension)
        chosen = sizes == tl.maximum(tl.max(tl.where(feasible, sizes, 0), 0), 1)
        point = tl.where(outside, nearest, tl.sum(tl.where(chosen, points, 0), 0)) * finite
        members = tl.where(outside, support.to(z.dtype), tl.sum(tl.where(chosen & face, 1.0, 0.0).to(z.dtype), 0))
        direction = tl.where(outside, 0, tl.sum(tl.where(chosen, centred / norm, 0), 0))
        # Two members on the sphere are where they are; roundings would be all of their gradient.
        moves = chosen & (tied | (sizes != 2))
        slope = tl.where(outside, 1, tl.sum(tl.sum(tl.where(moves, step / (2 * scale), 0), 0), 0)) * finite
    return point, members, direction, slope


@triton.jit
def _pull(grad, z, radius, final, CHOICE):
    """The gradient (4,) of logits z, given that of the point; 0 where the choice is final."""
    inside = _members(CHOICE.MEMBERS)
    grad = tl.where(inside, grad, 0)
    point, members, direction, slope = _project(z, radius, CHOICE)
    if CHOICE.PROJECTION == SOFTMAX:
        grad = point * (grad - tl.sum(point * grad, 0))
    elif CHOICE.PROJECTION >= SPARSE_SIMPLEX:
        grad = members * grad
        grad = grad - members * (tl.sum(grad, 0) / tl.sum(members, 0))
        grad = (grad - direction * tl.sum(direction * grad, 0)) * slope
    return tl.where(inside & (final == 0), grad, 0)


@triton.jit
def write_importance(out_ptr, logits, CHOICE, ACC):
    """Write the importance of each of four statistics in the mean, and in the variance, (2, 4)."""
    mean, var, mean_radius, var_radius, _, _ = _load(logits, CHOICE, ACC)
    of_mean, _, _, _ = _project(mean, mean_radius, CHOICE)
    of_var, _, _, _ = _project(var, var_radius, CHOICE)
    tl.store(out_ptr + tl.arange(0, 4), of_mean)
    tl.store(out_ptr + 4 + tl.arange(0, 4), of_var)


@triton.jit
def write_logit_gradients(grads, dmean_ptr, dvar_ptr, logits, CHOICE, ACC):
    """Write the gradients of K logits, given those of the importance, (8,): in the mean first."""
    mean_grad, var_grad = _halves(grads)
    mean, var, mean_radius, var_radius, mean_final, var_final = _load(logits, CHOICE, ACC)
    of_mean = _pull(mean_grad, mean, mean_radius, mean_final, CHOICE)
    of_var = _pull(var_grad, var, var_radius, var_final, CHOICE)
    if CHOICE.TIED:
        of_mean = (of_mean + of_var) / 2
        of_var = of_mean
    place = tl.arange(0, 4)
    tl.store(dmean_ptr + place, of_mean, mask=place < CHOICE.K)
    tl.store(dvar_ptr + place, of_var, mask=place < CHOICE.K)


@triton.jit
def _halves(grads):
    """The first and the last four of eight numbers."""
    slot, place = tl.arange(0, 8)[None, :], tl.arange(0, 4)[:, None]
    first = tl.sum(tl.where(slot == place, grads[None, :], 0), 1)
    return first, tl.sum(tl.where(slot == place + 4, grads[None, :], 0), 1)
