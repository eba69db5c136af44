"""Weight standardization against its definition, the published record, and where a channel does not vary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import standardize_weight

pytestmark = pytest.mark.usefixtures("poisoned", "path")


def reference(weight: Tensor) -> Tensor:
    """(w - mean) / (unbiased deviation + 1e-5), a channel at a time."""
    rows = []
    for w in weight:
        deviation = (((w - w.sum() / w.numel()) ** 2).sum() / (w.numel() - 1)) ** 0.5
        rows.append((w - w.sum() / w.numel()) / (deviation + 1e-5))
    return torch.stack(rows)


def laid_out(t: Tensor, layout: str) -> Tensor:
    """The same numbers, otherwise in memory."""
    if layout == "channels last" and t.dim() in (4, 5):
        return t.contiguous(memory_format=torch.channels_last if t.dim() == 4 else torch.channels_last_3d)
    if layout == "transposed":
        return t.transpose(0, 1).contiguous().transpose(0, 1)
    return t.clone()


LAYOUTS = ("contiguous", "channels last", "transposed")


@given(
    st.integers(1, 8),
    st.integers(1, 5),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from((1.0, 1e-4, 100.0)),
    st.sampled_from((0.3, -1e4)),
    st.sampled_from(LAYOUTS),
    st.sampled_from(LAYOUTS),
    st.integers(0, 2**31),
)
def test_agrees_with_the_definition(
    out: int, fan: int, sides: list[int], scale: float, offset: float, layout: str, cotangent_layout: str, seed: int
) -> None:
    if fan * torch.Size(sides).numel() == 1:
        fan = 2
    generator = torch.Generator().manual_seed(seed)
    weight, cotangent = torch.randn(2, out, fan, *sides, generator=generator, dtype=torch.float64)
    weight = laid_out(scale * (weight + offset), layout).requires_grad_()
    cotangent = laid_out(cotangent, cotangent_layout)
    ours, theirs = standardize_weight(weight), reference(weight)
    digits = max(1.0, abs(offset))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11 * digits)
    (a,), (b,) = (torch.autograd.grad(y, weight, cotangent) for y in (ours, theirs))
    # Two weights standardize to a constant: their gradient is rounding, of the size of 1 / deviation.
    torch.testing.assert_close(a, b, rtol=1e-9 * digits, atol=1e-11 * digits / scale)


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


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2), (3, 4, 2, 3, 2)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_output_and_gradient_are_laid_out_as_the_weight(layout: str, shape: tuple[int, ...], path: str) -> None:
    weight = laid_out(torch.randn(shape), layout).requires_grad_()
    y = standardize_weight(weight)
    assert y.stride() == weight.stride()
    (gradient,) = torch.autograd.grad(y, weight, torch.randn(shape))
    assert gradient.stride() == weight.stride() or path == "reference"


@pytest.mark.parametrize("shape", [(5, 700, 3, 3), (3, 3, 3)])
def test_an_offset_keeps_its_digits_in_float32(shape: tuple[int, ...]) -> None:
    """Rows far from 0 among rows that are not, one that does not vary, and one with NaN."""
    weight = torch.randn(shape)
    weight[0] += 1e4
    weight[1] = weight[1] * 1e-3 + 7
    dy = torch.randn(shape)
    exact, ours = weight.double().requires_grad_(), weight.requires_grad_()
    found, right = standardize_weight(ours), reference(exact)
    torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=2e-6)
    (a,) = torch.autograd.grad(found, ours, dy)
    (b,) = torch.autograd.grad(right, exact, dy.double())
    for mine, true in zip(a.double(), b, strict=True):
        assert (mine - true).abs().max() < 2e-5 * true.abs().max()


def test_nan_stays_in_its_row() -> None:
    weight = torch.randn(3, 2, 3, 3)
    weight[1, 0, 0, 0] = float("nan")
    y = standardize_weight(weight)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


def test_saves_the_weight_and_a_number_per_channel(path: str) -> None:
    weight = torch.randn(16, 32, 3, 3, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        standardize_weight(weight)
    others = [t for t in saved if t.data_ptr() != weight.data_ptr()]
    if path == "reference":
        assert any(t.numel() > 16 for t in others)
    else:
        assert [t.numel() for t in others] == [16, 16]


@pytest.mark.parametrize("shape", [(0, 3, 3, 3), (4, 0, 3, 3)])
def test_empty(shape: tuple[int, ...]) -> None:
    weight = torch.empty(shape, requires_grad=True)
    y = standardize_weight(weight)
    assert y.shape == shape
    (gradient,) = torch.autograd.grad(y.sum(), weight)
    assert gradient.shape == shape
