"""A fast path in plain PyTorch, which is always there, for tests of who takes one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from switchnorm.ops.kernels.base import Kernel
from switchnorm.ops.moments import map_size, moments
from switchnorm.ops.statistics import Table


class PlainKernel(Kernel):
    """All of it in passes."""

    name = "cpu"

    def refusal(self, x: Tensor) -> str | None:
        """It takes everything."""
        return None

    def whole_pass(self, *given: Any) -> None:
        """None."""

    def moments(self, x: Tensor) -> Table:
        """By the reference's."""
        return moments(x)

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        """Two operations."""
        y = (x - _over(centre, x)) * _over(scale, x)
        return (y if shift is None else y + _over(shift[None], x)).to(x.dtype)

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor) -> Table:
        """Two sums."""
        shape = (*x.shape[:2], map_size(x))
        return dy.reshape(shape).sum(2), (dy * (x - _over(centre, x)) * _over(scale, x)).reshape(shape).sum(2)

    def combine(self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """As it is written."""
        return (dy * _over(a, x) + (x - _over(centre, x)) * _over(b, x) + _over(c, x)).to(x.dtype)


def _over(table: Tensor, x: Tensor) -> Tensor:
    return table[(..., *(None,) * (x.dim() - 2))]
