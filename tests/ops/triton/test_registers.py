"""What plans take for granted of compiled kernels: registers, and local and shared memory, on an H100 or H200."""

from __future__ import annotations

import pytest
import torch

from switchnorm.ops.kernels.triton.device import H200
from switchnorm.ops.kernels.triton.plan import plan, predict
from tests.ops.triton.cases import SN
from tests.ops.triton.test_compilation import TRADED, Compiler, compile_both, compiler, maps

__all__ = ["compiler"]

SHAPES = ((32, 256, 56, 56), (32, 1024, 14, 14), (32, 2048, 7, 7), (2, 1024, 50, 85))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
def test_a_multiprocessor_holds_what_is_predicted(
    compiler: Compiler, shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool, residual: bool
) -> None:
    x = maps(shape, dtype, channels_last)
    cut = plan(x)
    expected = predict(cut, x.element_size(), H200).resident
    compile_both(x, SN, relu=True, residual=residual)
    assert len(compiler.compiled) == 4
    for compiled in compiler.compiled:
        held = H200.resident(cut.warps, compiled.registers, max(1, compiled.shared))
        assert held >= expected, (compiled.name, compiled.registers, compiled.shared)
        assert compiled.stack <= TRADED, compiled.name
