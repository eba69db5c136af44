"""`normalize` against definitions written with loops, against torch.nn, and under large offsets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from switchnorm.ops import moments, normalize
from tests.ops.definitions import SINGLE, SN, Case, cases, close, reference

pytestmark = pytest.mark.usefixtures("poisoned", "path")


@given(cases())
def test_agrees_with_the_definitions(case: Case) -> None:
    leaves = case.leaves()
    for leaf in leaves:
        leaf.requires_grad_()
    ours = normalize(*case.arguments(), **case.options)
    theirs, batch_mean, batch_var = reference(*case.arguments(), **case.options)
    # An offset of 1e4 costs 4 of float64's 16 digits, and a variance of eps multiplies the rest by 1 / sqrt(eps) = 316,
    # its gradient by the cube of that relative to the deviations.
    tolerance = 1e-9 if case.offset == 1e4 else 1e-11
    close(ours.y, theirs, tolerance)
    found = torch.autograd.grad(ours.y, leaves, case.dy, allow_unused=True, materialize_grads=True)
    expected = torch.autograd.grad(theirs, leaves, case.dy, allow_unused=True, materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        close(a, b, 100 * tolerance)
    if "batch" in case.statistics and "running" not in case.options:
        assert ours.batch_mean is not None
        assert ours.batch_var is not None
        assert not ours.batch_mean.requires_grad
        close(ours.batch_mean, batch_mean, 1e-12)
        if case.options["unbiased"]:
            close(ours.batch_var, batch_var, tolerance)
    else:
        assert ours.batch_mean is None
        assert ours.batch_var is None


@given(cases(), st.sampled_from((torch.float32, torch.bfloat16, torch.float16)))
def test_keeps_dtype_and_memory_format(case: Case, dtype: torch.dtype) -> None:
    x = case.x.to(dtype)
    y = normalize(x, *case.arguments()[1:], **case.options).y
    assert y.dtype == dtype
    assert y.shape == x.shape
    for memory_format, dims in ((torch.channels_last, 4), (torch.channels_last_3d, 5), (torch.contiguous_format, 0)):
        if x.dim() == dims or not dims:
            assert y.is_contiguous(memory_format=memory_format) or not x.is_contiguous(memory_format=memory_format)
    # The result is that of exact arithmetic on the rounded input, rounded once: an ulp of the output.
    if dtype != torch.float32 and case.offset != 1e4:
        exact = normalize(x.double(), *case.arguments()[1:], **case.options).y
        ulp = torch.finfo(dtype).eps
        torch.testing.assert_close(y.double(), exact, rtol=ulp, atol=1e-3)


TORCH = {
    "batch": lambda dims, c: (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](c, momentum=1),
    "layer": lambda dims, c: nn.GroupNorm(1, c),
    "group:2": lambda dims, c: nn.GroupNorm(2, c),
    "instance": lambda dims, c: (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1](c, affine=True),
}


@pytest.mark.parametrize(
    ("statistic", "shape"),
    [
        (statistic, shape)
        for statistic in TORCH
        for shape in [(5, 6), (4, 6, 7), (4, 6, 3, 5), (2, 6, 3, 1, 2), (3, 6, 1, 2)]
        if len(shape) > 2 or statistic != "instance"  # a flat input has no instance statistic, here and in torch
    ],
)
def test_population_variances_agree_with_torch(statistic: str, shape: tuple[int, ...]) -> None:
    theirs = TORCH[statistic](max(len(shape) - 2, 1), shape[1]).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    x, dy = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    ours = normalize(x, (statistic,), weight=theirs.weight, bias=theirs.bias, unbiased=False)
    expected = theirs(x)
    close(ours.y, expected, 1e-12)
    leaves = (x, theirs.weight, theirs.bias)
    for a, b in zip(torch.autograd.grad(ours.y, leaves, dy), torch.autograd.grad(expected, leaves, dy), strict=True):
        close(a, b, 1e-11)
    if statistic == "batch":
        assert ours.batch_mean is not None
        assert ours.batch_var is not None
        close(ours.batch_mean, theirs.running_mean, 1e-12)
        close(ours.batch_var, theirs.running_var, 1e-12)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("statistics", "ghost"), [(SN, None), (SN, 2), (("batch",), 3), *(((s,), None) for s in SINGLE)], ids=str
)
def test_a_large_offset_keeps_the_digits(statistics: tuple[str, ...], ghost: int | None, training: bool) -> None:
    """x holds 1e4 to 1/1024 in float32: a mean rounded likewise shifts y by at most half of that."""
    # Maps large enough that no variance is small by chance.
    x = (1e4 + torch.randn(7, 8, 9, 9)).requires_grad_()
    dy = torch.randn(x.shape)
    importance = [torch.randn(len(statistics)).softmax(0) for _ in range(2)]
    options: dict[str, Any] = {"ghost": ghost if training else None}
    if not training:
        options["running"] = (1e4 + torch.randn(8), 0.5 + torch.rand(8))
    y = normalize(x, statistics, *importance, **options).y
    (dx,) = torch.autograd.grad(y, x, dy)
    wide = x.detach().double().requires_grad_()
    if not training:
        options["running"] = tuple(table.double() for table in options["running"])
    exact = normalize(wide, statistics, *(t.double() for t in importance), **options).y
    (exact_dx,) = torch.autograd.grad(exact, wide, dy.double())
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-3)
    torch.testing.assert_close(dx.double(), exact_dx, rtol=0, atol=1e-3)


def test_moments_do_not_cancel() -> None:
    x = 1e4 + torch.randn(3, 4, 50, 50)
    mean, var = moments(x)
    torch.testing.assert_close(mean, x.double().mean((2, 3)).float(), rtol=1e-7, atol=0)
    torch.testing.assert_close(var, x.double().var((2, 3), correction=0).float(), rtol=1e-5, atol=0)


GRADCHECKS: list[tuple[tuple[int, ...], tuple[str, ...], dict[str, Any]]] = [
    *(((3, 4, 2, 2), (name,), {}) for name in SINGLE),
    *(((3, 4, 2, 2), (name,), {"unbiased": False}) for name in SINGLE),
    ((3, 4, 2, 2), SN, {}),
    ((5, 2, 3), SN, {"ghost": 2}),
    ((5, 2, 3), ("batch",), {"ghost": 3, "unbiased": False}),
    ((4, 3), ("layer", "batch"), {}),
    ((3, 2, 1, 1), SN, {}),
    ((1, 4, 2, 1, 2), (*SN, "group:2"), {}),
    ((2, 2, 3), SN, {"running": (torch.tensor([0.3, -1.0]).double(), torch.tensor([0.7, 2.0]).double())}),
]


@pytest.mark.parametrize(("shape", "statistics", "options"), GRADCHECKS, ids=str)
def test_gradients_of_first_and_second_order(
    shape: tuple[int, ...], statistics: tuple[str, ...], options: dict[str, Any]
) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    logits = [torch.randn(len(statistics), dtype=torch.float64, requires_grad=True) for _ in range(2)]
    affine = [torch.randn(shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def y(x: Tensor, mean_logits: Tensor, var_logits: Tensor, *affine: Tensor) -> Tensor:
        importance = mean_logits.softmax(0), var_logits.softmax(0)
        return normalize(x, statistics, *importance, *affine, eps=1e-2, **options).y

    assert torch.autograd.gradcheck(y, (x, *logits, *affine))
    assert torch.autograd.gradgradcheck(y, (x, *logits, *affine))
