"""The condition of every speed: the result is the reference's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: The largest error that passes, as a share of the largest number of the expected tensor.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


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
