"""The Triton path as the other paths are: a `Kernel`."""

from __future__ import annotations

import functools
from typing import ClassVar

from torch import Tensor

from switchnorm.ops.kernels.base import Kernel, WholePass, refused
from switchnorm.ops.kernels.triton import fused, passes
from switchnorm.ops.kernels.triton.launch import INTERPRETING, on_device
from switchnorm.ops.kernels.triton.probe import failure
from switchnorm.ops.partition import Ghost
from switchnorm.ops.statistics import Table


class TritonKernel(Kernel):
    """CUDA, in two launches per direction or one; around rules that are not fused, one for every pass over x."""

    name: ClassVar[str] = "triton"

    def refusal(self, x: Tensor) -> str | None:
        """It takes floating numbers on CUDA, and on the CPU in Triton's interpreter."""
        reason = refused(x, x.is_cuda or (INTERPRETING and x.is_cpu))
        return failure(x.get_device()) if reason is None and x.is_cuda else reason

    def whole_pass(self, statistics: tuple[str, ...], ghost: Ghost, samples: int, averages: bool) -> WholePass | None:
        """For one process, equal parts of the batch, at most one way of grouping, and a share of each batch."""
        return fused if _holds(statistics, ghost, samples) and not averages else None

    def moments(self, x: Tensor) -> Table:
        """One launch."""
        with on_device(x):
            mean, var = passes.moments(x).unbind()
        return mean, var

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        """One launch."""
        with on_device(x):
            return passes.affine(x, centre, scale, shift)

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor) -> Table:
        """One launch, and the scale."""
        with on_device(x):
            total, product = passes.sums(dy, x, centre).unbind()
        return total, product.mul_(scale)

    def combine(self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """One launch."""
        with on_device(x):
            return passes.combine(dy, a, x, centre, b, c)


@functools.lru_cache(maxsize=4096)
def _holds(statistics: tuple[str, ...], ghost: Ghost, samples: int) -> bool:
    if sum(name.startswith("group:") for name in statistics) > 1:
        return False
    if "batch" not in statistics or ghost is None:
        return True
    return not isinstance(ghost, tuple) and (ghost >= samples or samples % ghost == 0)
