"""The condition of every speed: the result is the reference's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from switchnorm.ops import kernel

#: The largest error that passes, as a share of the largest number of the expected tensor.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}

#: How many times the reference's own error, and what share of the result beside it, an error may be.
ROUNDING, TOLERANCE = 3, 1e-3


class MismatchError(Exception):
    """A result that is not the reference's, so that its speed means nothing."""


def require_agreement(
    found: Mapping[str, Tensor | None],
    expected: Mapping[str, Tensor | None],
    tolerance: float,
    sized_as: Mapping[str, str] | None = None,
) -> None:
    """Compare tensors by name, those of float64 `expected` as the truth; a gradient of None is one of 0.

    Args:
        found, expected: the tensors.
        tolerance: the largest error, as a share of the largest number of the expected tensor.
        sized_as: for a tensor of sums that may cancel, one whose numbers are as large as the terms: the error may be a
            share of these too.

    Raises:
        MismatchError: a larger error, or NaN.
    """
    for name, truth in expected.items():
        result = found[name]
        if truth is None and result is None:
            continue
        size = max(_largest(expected[other]) for other in (name, (sized_as or {}).get(name, name)))
        error = _largest(_difference(result, truth))
        if not error <= tolerance * size:
            raise MismatchError(f"{name} differs by {error:.2g} where the largest number is {size:.2g}")


def require_accuracy(results: Callable[[torch.dtype], Mapping[str, Sequence[Tensor]]]) -> None:
    """Compare a network in float32 with the reference in float64.

    Rounding grows through some fifty layers, by how much the reference in float32 tells.

    Args:
        results: what the network computes in a dtype, tensors by what they are called together.

    Raises:
        MismatchError: an error far above that of the reference in float32, or NaN.
    """
    with kernel("reference"):
        truth = results(torch.float64)
        by_rounding = _errors(results(torch.float32), truth)
    for name, error in _errors(results(torch.float32), truth).items():
        if not error <= ROUNDING * by_rounding[name] + TOLERANCE:
            raise MismatchError(
                f"{name} is wrong by {error:.2g} of its size, and by {by_rounding[name]:.2g} in the reference"
            )


def _errors(found: Mapping[str, Sequence[Tensor]], truth: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """The norm of each error over that of the truth."""
    return {
        name: _norm([result.double() - each for result, each in zip(found[name], exact, strict=True)]) / _norm(exact)
        for name, exact in truth.items()
    }


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(tensor)) for tensor in tensors))


def _difference(result: Tensor | None, truth: Tensor | None) -> Tensor:
    if result is None or truth is None:
        lone = result if truth is None else truth
        assert lone is not None
        return lone
    return result.detach().double() - truth.detach()


def _largest(tensor: Tensor | None) -> float:
    if tensor is None:
        return 0.0
    return float(torch.linalg.vector_norm(tensor.detach(), float("inf")))
