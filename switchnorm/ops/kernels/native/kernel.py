"""The compiled library as the other fast paths are: a `Kernel`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import Kernel, WholePass, refused
from switchnorm.ops.kernels.native.library import AFFINE, COMBINE, LEARNS, MOMENTS, PASS, SUMS, Library, check
from switchnorm.ops.kernels.native.node import NativePass
from switchnorm.ops.kernels.native.plan import faces, plan
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import GIVEN, Call
from switchnorm.ops.statistics import Table


class NativeKernel(Kernel):
    """Floating numbers of any width on the CPU: one call in each direction.

    Where processes share statistics the passes are calls of their own, with tables in float64 between them.
    """

    name: ClassVar[str] = "cpu"
    leaves_out: ClassVar[bool] = True

    def __init__(self, library: Library) -> None:
        self.library = library
        self._whole = NativePass(library)

    def refusal(self, x: Tensor) -> str | None:
        """It takes floating numbers on the CPU."""
        return refused(x, x.is_cpu)

    def whole_pass(self, statistics: tuple[str, ...], ghost: Ghost, samples: int, averages: bool) -> WholePass | None:
        """For any statistics and parts of the batch."""
        return self._whole

    # The single passes.

    def table_dtype(self, x: Tensor) -> torch.dtype:
        """Which keeps all digits whatever the offset."""
        return torch.float64

    def moments(self, x: Tensor) -> Table:
        """One call."""
        tables = self._pass(MOMENTS, x, None, None)
        return tables[0], tables[1]

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        """One call."""
        y = torch.empty_like(x)
        self._pass(AFFINE, x, None, y, {0: centre, 2: scale}, shift)
        return y

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor) -> Table:
        """One call."""
        tables = self._pass(SUMS, x, dy, None, {0: centre, 2: scale})
        return tables[3], tables[4]

    def combine(self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """One call."""
        dx = torch.empty_like(x)
        self._pass(COMBINE, x, dy, dx, {0: centre, 2: a, 3: c, 4: b})
        return dx

    def _pass(
        self,
        which: int,
        x: Tensor,
        dy: Tensor | None,
        out: Tensor | None,
        given: dict[int, Tensor] | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """A single pass over x with tables (5, N, C), some of which are given; returns the tables."""
        samples, channels = x.shape[:2]
        held = torch.empty(faces(1) + 5 * samples * channels, dtype=torch.float64, device="cpu")
        tables = held[faces(1) :].view(5, samples, channels)
        for row, table in (given or {}).items():
            tables[row] = table
        call = Call(("instance",), 0.0, None, False, False, GIVEN, False)
        wide = (torch.float32, torch.float32, torch.float64, torch.float64)
        this = plan(call, x.shape, x.is_contiguous(), x.dtype, False, *wide)
        bias = None if bias is None else bias.double().contiguous()
        at = 0 if out is None else out.data_ptr()
        check(
            self.library.single(
                this.packed
                + PASS.pack(
                    self.library.parallel,
                    self.library.team,
                    torch.get_num_threads(),
                    LEARNS,
                    x.data_ptr(),
                    0 if bias is None else bias.data_ptr(),
                    at,
                    held.data_ptr(),
                    0 if dy is None else dy.data_ptr(),
                    at,
                ),
                which,
            )
        )
        return tables
