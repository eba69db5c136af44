"""The compiled library as the other fast paths are: a `Kernel`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from switchnorm.ops.kernels.base import (
    Forward,
    Gradients,
    Kernel,
    Moments,
    Operands,
    WholePass,
    like,
    packed,
    packed_table,
)
from switchnorm.ops.kernels.native.library import AFFINE, COMBINE, DTYPES, LEARNS, MOMENTS, PASS, SUMS, Library, check
from switchnorm.ops.kernels.native.node import NativePass
from switchnorm.ops.kernels.native.plan import faces, plan
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import GIVEN, Call
from switchnorm.ops.rule import Rule
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
        if not x.is_cpu:
            return f"the input is on {x.device.type}"
        if x.dtype not in DTYPES:
            return f"it does not take {str(x.dtype).removeprefix('torch.')}"
        return None

    def whole_pass(self, statistics: tuple[str, ...], ghost: Ghost, samples: int, averages: bool) -> WholePass | None:
        """For any statistics and parts of the batch."""
        return self._whole

    def keeps_output(self, operands: Operands, rule: Rule) -> bool:
        """Where there is no residual, the operations that gave y its sign are done again."""
        return operands.residual is not None or _in_passes(operands, rule)

    def forward(self, operands: Operands, rule: Rule, relu: bool, keeps: bool) -> Forward:
        """One call; in passes with tables in float64 between them where processes share statistics."""
        x, mean, var, weight, bias, residual, running = operands
        if _in_passes(operands, rule):
            forward = super().forward(operands, rule, relu, keeps)
            if forward.batch_mean is None or forward.batch_var is None:
                return forward
            dtype = accumulation_dtype(x.dtype)
            return forward._replace(batch_mean=forward.batch_mean.to(dtype), batch_var=forward.batch_var.to(dtype))
        call = Call(rule.statistics, rule.eps, rule.ghost, rule.unbiased, relu, GIVEN, False)
        mean, var, weight, bias = packed(mean, var, weight, bias)
        y, saved, batch, notes = self._whole.forward(
            call, x, mean, var, None, weight, bias, residual, packed_table(running), None, keeps
        )
        batch_mean, batch_var = (None, None) if batch is None else batch.unbind()
        return Forward(y, batch_mean, batch_var, () if saved is None else (saved,), (call, notes))

    def backward(self, forward: Forward, operands: Operands, rule: Rule, relu: bool, dy: Tensor) -> Gradients:
        """As `forward`."""
        if _in_passes(operands, rule):
            return super().backward(forward, operands, rule, relu, dy)
        x, mean, var, weight, bias, residual, running = operands
        y = like(forward.y, x) if relu and residual is not None else None
        mean, var, weight, bias = packed(mean, var, weight, bias)
        call, notes = forward.notes
        (saved,) = forward.saved
        dx, of_mean, of_var, of_weight, of_bias, dz = self._whole.backward(
            call, notes, dy, x, y, saved, mean, var, None, weight, bias, packed_table(running)
        )
        # Without ReLU, dy is the residual's gradient as it is.
        of_residual = None if residual is None else dy if dz is None else dz
        return Gradients(dx, of_mean, of_var, of_weight, of_bias, of_residual)

    # The single passes.

    def _moments(self, operands: Operands, rule: Rule) -> Moments:
        found = super()._moments(operands, rule)
        # Tables in float64 keep all digits whatever the offset, and every process of a group has them so.
        return Moments(found.mean.double(), found.var.double(), True)

    def moments(self, x: Tensor, factor: float) -> Moments:
        """One call."""
        tables = self._pass(MOMENTS, x, None, None)
        return Moments(tables[0], tables[1].mul_(factor), True)

    def affine(self, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None, far: Tensor | bool) -> Tensor:
        """One call."""
        y = torch.empty_like(x)
        self._pass(AFFINE, x, None, y, {0: centre, 2: scale}, shift)
        return y

    def scaled(self, dy: Tensor, scale: Tensor) -> Tensor:
        """One call."""
        return self.affine(dy, torch.zeros_like(scale), scale, None, True)

    def sums(self, dy: Tensor, x: Tensor, centre: Tensor, scale: Tensor, far: Tensor | bool) -> Table:
        """One call."""
        tables = self._pass(SUMS, x, dy, None, {0: centre, 2: scale})
        return tables[3], tables[4]

    def combine(
        self, dy: Tensor, a: Tensor, x: Tensor, centre: Tensor, b: Tensor, c: Tensor, far: Tensor | bool
    ) -> Tensor:
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
        this = plan(call, x.shape, x.is_contiguous(), x.dtype, False, 0.0, *wide)
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


def _in_passes(operands: Operands, rule: Rule) -> bool:
    """Whether other processes have a part in it, or there is nothing to normalize."""
    shared = rule.group is not None and "batch" in rule.statistics and operands.running is None
    return shared or not operands.x.numel()
