"""What importance and statistics become, as tables of cases by which every definition of the rule is tested alike.

There are three: Python's, on tensors (`switchnorm.ops.rule`, `switchnorm.ops.simplex`) and on numbers
(`switchnorm.ops.importance`), C++'s (`ops/kernels/native/source`) and Triton's (`ops/kernels/triton`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from switchnorm.ops import importance, kernel, normalize
from switchnorm.ops.importance import importance_of
from switchnorm.ops.projection import SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT, Projection, members
from switchnorm.ops.switched import switch

SN = ("instance", "layer", "batch")
#: What is mixed, by how many there are.
STATISTICS: dict[int, tuple[str, ...]] = {1: ("layer",), 2: ("layer", "batch"), 3: SN, 4: (*SN, "group:2")}
EPS = 1e-2


class Projected(NamedTuple):
    """Logits, and how they become importance.

    Attributes:
        kind: of `switchnorm.ops.projection`.
        mean, var: logits.
        radius: SparsestMax's.
        fixed: whether the choices of mean and variance are final.
        tied: whether both have one importance.
        flat: whether the input is flat, which leaves the instance statistic out.
    """

    kind: int
    mean: tuple[float, ...]
    var: tuple[float, ...]
    radius: float = 0.0
    fixed: tuple[int, int] = (0, 0)
    tied: bool = False
    flat: bool = False


LOGITS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "one": ((0.7,), (-0.2,)),
    "two": ((0.3, 0.1), (-0.4, 0.5)),
    "three": ((0.3, -0.1, 0.15), (0.9, -1.3, 0.4)),
    "four": ((0.3, -0.1, 0.15, 0.2), (1.1, 0.8, -0.2, 0.9)),
    "equal": ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "two of three equal": ((1.0, 1.0, 0.0), (0.0, 2.0, 2.0)),
    "far apart": ((1e30, -1e30, 0.0), (0.0, 50.0, -50.0)),
}
_KINDS = {"softmax": SOFTMAX, "ball in the simplex": SPARSE_SIMPLEX, "ball in the support": SPARSE_SUPPORT}


def _projections() -> dict[str, Projected]:
    found: dict[str, Projected] = {}
    for (kind, number), (name, pair) in itertools.product(_KINDS.items(), LOGITS.items()):
        radii = (0.0,) if number == SOFTMAX else (0.0, 0.2, 0.5, 0.75, 1.0)
        for radius in radii:
            found[f"{kind}, {name}, {radius}"] = Projected(number, *pair, radius)
    for (kind, number), tied, flat in itertools.product(_KINDS.items(), (False, True), (False, True)):
        final = ((0, 0),) if number == SOFTMAX else ((0, 0), (1, 0), (0, 1), (1, 1))
        for fixed in final:
            name = f"{kind}, {'tied' if tied else 'apart'}, final {fixed}, {'flat' if flat else 'maps'}"
            found[name] = Projected(number, *LOGITS["three"], 0.3, fixed, tied, flat)
    return found


PROJECTIONS = _projections()
#: Logits that move no importance: of two members on the sphere around the ball's centre.
STILL = Projected(SPARSE_SUPPORT, (1.0, 0.4), (0.4, 1.0), 0.6)


def exactly(case: Projected, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """The importance by operations on tensors, of logits that belong to the statistics."""
    if case.tied:
        mean = var = (mean + var) / 2
    if case.kind == SOFTMAX:
        return mean.softmax(0), var.softmax(0)
    centre: Any = "simplex" if case.kind == SPARSE_SIMPLEX else "support"
    return importance._plain(mean, var, *_final(case), centre)


def _final(case: Projected) -> tuple[Tensor, Tensor, Tensor]:
    fixed = [torch.tensor([each]) for each in case.fixed]
    return fixed[0], fixed[1], torch.tensor([case.radius], dtype=torch.float64)


def _projection(case: Projected) -> Projection:
    return Projection(case.kind, None if case.kind == SOFTMAX else _final(case), case.tied)


def projected(case: Projected, path: str) -> dict[str, Tensor]:
    """What a normalization by logits gives, and its gradients.

    Args:
        case: the logits.
        path: "plain" for operations on tensors, "numbers" for Python's numbers, else the kernel that takes logits.
    """
    drawn = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=drawn, dtype=torch.float64)

    shape = (4, 6) if case.flat else (4, 6, 3, 5)
    statistics = STATISTICS[len(case.mean)]
    logits = [torch.tensor(each, dtype=torch.float64) for each in (case.mean, case.var)]
    leaves = {"x": normal(*shape), "mean_logits": logits[0], "var_logits": logits[1]}
    leaves |= {"weight": normal(6), "bias": normal(6)}
    x, mean, var, weight, bias = (t.requires_grad_() for t in leaves.values())
    if path in ("plain", "numbers"):
        names = members(statistics, case.flat)
        kept = [statistics.index(name) for name in names]
        of_members = mean[kept], var[kept]
        found = exactly(case, *of_members) if path == "plain" else importance_of(*of_members, _projection(case))
        with kernel("reference"):
            y = normalize(x, names, *found, weight, bias, eps=EPS).y
    else:
        with kernel(path):
            whole = switch(
                x, statistics, mean, var, _projection(case), weight, bias, EPS, None, None, None, None, False
            )
        assert whole is not None
        y = whole
    gradients = torch.autograd.grad(y, list(leaves.values()), normal(*shape), materialize_grads=True)
    return {"y": y.detach(), **{f"d {name}": g for name, g in zip(leaves, gradients, strict=True)}}


#: Statistics, and options of `normalize`.
MIXTURES: dict[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    f"{' + '.join(names)}, {options or 'published'}": (names, options)
    for names in (SN, ("layer", "batch"), ("batch", "group:2"), ("group:3",))
    for options in ({}, {"ghost": 2}, {"ghost": (3, 1)}, {"unbiased": False}, {"running": True})
}
SHAPES = ((4, 6, 3, 5), (4, 6, 1, 1), (4, 6))


def mixed(shape: tuple[int, ...], name: str, path: str) -> dict[str, Tensor]:
    """What `normalize` gives for an entry of `MIXTURES`, and its gradients, by the kernel of that name."""
    statistics, options = MIXTURES[name]
    statistics = members(statistics, len(shape) == 2)
    drawn = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=drawn, dtype=torch.float64)

    shares = [normal(len(statistics)).softmax(0) for _ in range(2)]
    leaves = {"x": normal(*shape), "mean_importance": shares[0], "var_importance": shares[1]}
    leaves |= {"weight": normal(6), "bias": normal(6)}
    given = [t.requires_grad_() for t in leaves.values()]
    others = dict(options)
    if others.pop("running", False):
        others["running"] = (normal(6), normal(6).exp())
    with kernel(path):
        y, batch_mean, batch_var = normalize(given[0], statistics, *given[1:], eps=EPS, **others)
    gradients = torch.autograd.grad(y, given, normal(*shape))
    found = {"y": y.detach(), **{f"d {name}": g for name, g in zip(leaves, gradients, strict=True)}}
    if batch_mean is not None and batch_var is not None:
        found |= {"batch mean": batch_mean, "batch var": batch_var}
    # Importance of the mean sums to 1, so that what the entries of its gradient share is nobody's.
    found["d mean_importance"] -= found["d mean_importance"].mean()
    return found


def compared(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Fail where two definitions differ by more than roundings in float64."""
    assert ours.keys() == theirs.keys()
    for name, exact in theirs.items():
        torch.testing.assert_close(
            ours[name], exact, rtol=1e-10, atol=1e-10, msg=lambda said, name=name: f"{name}: {said}"
        )
