"""How many kernels run, and which: two per direction, one where a program can hold it, four passes for other rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from switchnorm.ops import kernel, normalize
from tests.ops.triton.cases import SN
from tests.ops.triton.launches import FUSED, PASSES, RESIDENT, launches

CASES: list[tuple[tuple[int, ...], tuple[str, ...], dict[str, Any], Any]] = [
    ((2, 64, 8, 8), SN, {}, RESIDENT),
    ((8, 16, 4, 4), ("batch",), {}, RESIDENT),
    ((2, 512, 7, 7), ("batch",), {}, RESIDENT),
    ((4, 64, 14, 14), SN, {}, FUSED),
    ((4, 64, 14, 14), SN, {"ghost": 2}, FUSED),
    ((4, 64, 14, 14), (*SN, "group:8"), {"activation": "relu"}, FUSED),
    ((4, 64, 14, 14), ("group:8",), {}, FUSED),
    ((32, 2048, 7, 7), SN, {"activation": "relu"}, FUSED),
    ((2, 256, 200, 336), SN, {}, FUSED),
    # No parameter ties samples or channels together.
    ((4, 16, 30, 30), ("instance",), {"plain": True}, RESIDENT),
    ((9, 16, 30, 30), ("instance",), {}, (RESIDENT[0], FUSED[1])),
    ((3, 64, 14, 14), SN, {"ghost": 2}, PASSES),
    ((4, 64, 14, 14), SN, {"ghost": (1, 0, 3)}, PASSES),
    ((4, 64, 14, 14), SN, {"ghost": (2, 0, 2)}, FUSED),
    ((2, 64, 14, 14), ("group:8", "group:2"), {"activation": "relu"}, PASSES),
]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("shape", "statistics", "options", "expected"), CASES, ids=str)
def test_launches(
    shape: tuple[int, ...],
    statistics: tuple[str, ...],
    options: dict[str, Any],
    expected: tuple[list[str], list[str]],
    memory_format: torch.memory_format,
) -> None:
    options = dict(options)
    x = torch.randn(shape).contiguous(memory_format=memory_format).requires_grad_()
    affine = [] if options.pop("plain", False) else [torch.randn(shape[1], requires_grad=True) for _ in range(2)]
    importance = []
    if len(statistics) > 1:
        importance = [torch.rand(len(statistics), requires_grad=True) for _ in range(2)]
    with kernel("triton"), launches(run=False) as forward:
        y = normalize(x, statistics, *(importance or (None, None)), *affine, **options).y
    with launches(run=False) as backward:
        torch.autograd.grad(y, (x, *importance, *affine), torch.randn_like(y))
    assert (forward, backward) == expected
