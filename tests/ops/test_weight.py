"""Weight standardization against its definition, the published record, and where a channel does not vary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import standardize_weight

pytestmark = pytest.mark.usefixtures("poisoned")


def reference(weight: Tensor) -> Tensor:
    """(w - mean) / (unbiased deviation + 1e-5), a channel at a time."""
    rows = []
    for w in weight:
        deviation = (((w - w.sum() / w.numel()) ** 2).sum() / (w.numel() - 1)) ** 0.5
        rows.append((w - w.sum() / w.numel()) / (deviation + 1e-5))
    return torch.stack(rows)


@given(
    st.integers(1, 8),
    st.integers(1, 5),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from((1.0, 1e-4, 100.0)),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_agrees_with_the_definition(
    out: int, fan: int, kernel: list[int], scale: float, transposed: bool, seed: int
) -> None:
    if fan * torch.Size(kernel).numel() == 1:
        fan = 2
    generator = torch.Generator().manual_seed(seed)
    weight, cotangent = torch.randn(2, out, fan, *kernel, generator=generator, dtype=torch.float64)
    weight = scale * (weight + 0.3)
    if transposed:
        weight = weight.transpose(0, 1).contiguous().transpose(0, 1)
    weight.requires_grad_()
    ours, theirs = standardize_weight(weight), reference(weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    (a,), (b,) = (torch.autograd.grad(y, weight, cotangent) for y in (ours, theirs))
    # Two weights standardize to a constant: their gradient is rounding, of the size of 1 / deviation.
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11 / scale)


def test_gradients_of_first_and_second_order() -> None:
    weight = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(standardize_weight, weight)
    assert torch.autograd.gradgradcheck(standardize_weight, weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e3])
def test_equal_weights_become_0_with_a_finite_gradient(value: float, dtype: torch.dtype) -> None:
    weight = torch.randn(3, 3, 3, 3, dtype=dtype)
    weight[1] = value
    weight.requires_grad_()
    y = standardize_weight(weight)
    assert (y[1] == 0).all()
    assert (y[0] != 0).any()
    (gradient,) = torch.autograd.grad(y, weight, torch.randn(y.shape).to(dtype) * 1e-3)
    assert gradient.isfinite().all()
    assert (gradient[1] != 0).any()


def test_a_single_weight_per_channel_becomes_0() -> None:
    weight = torch.randn(4, 1, 1, 1, requires_grad=True)
    y = standardize_weight(weight)
    assert (y == 0).all()
    (gradient,) = torch.autograd.grad(y, weight, torch.randn(y.shape))
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_computes_in_float32_or_better(dtype: torch.dtype) -> None:
    weight = torch.randn(4, 8, 3, 3).to(dtype)
    y = standardize_weight(weight)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), reference(weight.double()), rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("name", ["weight_standardized_conv2d", "weight_standardized_conv2d_grouped"])
def test_published(name: str, golden: Callable[[str], dict[str, Tensor]]) -> None:
    record = golden(name)
    options = {key: int(record[key]) for key in ("stride", "padding", "dilation", "groups")}
    x, weight, bias = (record[key].requires_grad_() for key in ("x", "weight", "bias"))
    y = torch.nn.functional.conv2d(x, standardize_weight(weight), bias, **options)
    torch.testing.assert_close(y, record["y"], rtol=0, atol=1e-9)
    gradients = torch.autograd.grad(y, (x, weight, bias), record["dy"])
    for gradient, key in zip(gradients, ("dx", "dweight", "dbias"), strict=True):
        torch.testing.assert_close(gradient, record[key], rtol=0, atol=1e-9)
