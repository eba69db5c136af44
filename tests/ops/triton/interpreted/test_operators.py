"""The operators as PyTorch sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from switchnorm.ops.kernels.triton import library
from tests.ops.triton.cases import SN
from tests.ops.triton.limits import cut


@pytest.fixture(autouse=True)
def _few_programs() -> Iterator[None]:
    with cut({"PROGRAMS": 4}):
        yield


GIVEN = {"statistics": ["layer", "instance", "batch", "group:2"], "eps": 1e-5, "ghost": None, "unbiased": True}


def maps(dtype: torch.dtype = torch.float32, memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    return torch.randn(4, 6, 5, 5).to(dtype).contiguous(memory_format=memory_format)


def table() -> Tensor:
    return torch.randn(4, 6)


FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)


@FORMATS
def test_passes(memory_format: torch.memory_format) -> None:
    x, dy = maps(memory_format=memory_format), maps(memory_format=memory_format)
    torch.library.opcheck(library.moments, (x,))
    torch.library.opcheck(library.affine, (x, table(), table(), torch.randn(6)))
    torch.library.opcheck(library.affine, (x, table(), table(), None))
    torch.library.opcheck(library.sums, (dy, x, table()))
    torch.library.opcheck(library.combine, (dy, table(), x, table(), table(), table()))


@FORMATS
@pytest.mark.parametrize(
    ("dtype", "relu", "options"),
    [
        (torch.bfloat16, True, {}),
        (torch.float32, False, {"ghost": 2}),
        (torch.float64, True, {"running": True}),
        (torch.float16, False, {"statistics": ["layer"]}),
    ],
    ids=str,
)
def test_fused(memory_format: torch.memory_format, dtype: torch.dtype, relu: bool, options: dict[str, Any]) -> None:
    options = dict(options)
    running = (torch.randn(6), torch.rand(6)) if options.pop("running", False) else (None, None)
    statistics, eps, ghost, unbiased = {**GIVEN, **options}.values()
    x, dy, residual = (maps(dtype, memory_format) for _ in range(3))
    given = [torch.rand(len(statistics)) for _ in range(2)] + [torch.randn(6) for _ in range(2)]
    arguments = (x, *given, residual, *running, statistics, eps, ghost, unbiased, relu)
    torch.library.opcheck(library.normalize, arguments)
    y, saved, _ = library.normalize(*arguments)
    kept = y if relu else None
    torch.library.opcheck(library.gradients, (dy, x, kept, saved, *given, *running, statistics, ghost, unbiased, relu))


def test_fused_without_parameters() -> None:
    x, dy = maps(), maps()
    nothing = (None,) * 4
    torch.library.opcheck(library.normalize, (x, *nothing, None, None, None, ["batch"], 1e-5, None, False, False))
    _, saved, _ = library.normalize(x, *nothing, None, None, None, ["batch"], 1e-5, None, False, False)
    torch.library.opcheck(library.gradients, (dy, x, None, saved, *nothing, None, None, ["batch"], None, False, False))


def test_weight_standardization() -> None:
    w, dy = torch.randn(2, 5, 18)
    torch.library.opcheck(library.standardize, (w, 1e-5))
    _, mean, std = library.standardize(w, 1e-5)
    torch.library.opcheck(library.standardize_backward, (dy, w, mean, std, 1e-5))


def test_results_are_the_same_bits_every_time() -> None:
    x, dy = maps(torch.bfloat16), maps(torch.bfloat16)
    given = [torch.rand(3), torch.rand(3), torch.randn(6), torch.randn(6)]
    rule = (list(SN), 1e-5, 2, True, True)
    runs = []
    for _ in range(2):
        y, saved, batch = library.normalize(x, *given, None, None, None, *rule)
        gradients = library.gradients(dy, x, None, saved, *given, None, None, rule[0], *rule[2:])
        runs.append([y, saved, batch, *gradients])
    for once, again in zip(*runs, strict=True):
        assert torch.equal(once, again)
