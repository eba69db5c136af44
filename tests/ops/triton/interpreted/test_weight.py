"""Weight standardization in Triton against the one in PyTorch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import standardize_weight
from switchnorm.ops.kernels.triton.weight import standardize, standardize_backward
from tests.ops.triton.cases import unit
from tests.ops.triton.launches import launches

pytestmark = pytest.mark.usefixtures("poisoned")

EPS = 1e-5
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def reference(weight: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    wide = weight.double().requires_grad_()
    out = standardize_weight(wide, EPS)
    return out.detach(), *torch.autograd.grad(out, wide, dy.double())


@settings(max_examples=10, phases=(Phase.explicit, Phase.generate))
@given(
    st.integers(1, 4), st.integers(2, 5000), st.sampled_from((1.0, 1e-3)), st.sampled_from(DTYPES), st.integers(0, 99)
)
def test_agrees_with_the_reference(rows: int, width: int, scale: float, dtype: torch.dtype, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Steps between weights, so that no deviation is small by chance.
    weight = torch.randn(rows, width, generator=generator, dtype=torch.float64) + torch.arange(width) % 2
    weight, dy = (scale * weight).to(dtype), torch.randn(rows, width, generator=generator).to(dtype)
    expected, gradient = reference(weight, dy)
    out, mean, std = standardize(weight, EPS)
    found = standardize_backward(dy, weight, mean, std, EPS)
    # 16 roundings in the dtype of accumulation; sums of dy in the gradient are means over the row, then rounding.
    rounding = torch.finfo(std.dtype).eps * 16
    inverse = 1 / std.min().item()
    for ours, theirs, size in ((out, expected, 1.0), (found, gradient, inverse * float(dy.abs().max()))):
        assert ours.dtype == dtype
        error = (ours.double() - theirs).abs()
        largest = max(size, float(theirs.abs().max()))
        assert (error <= rounding * largest * 4 + theirs.abs() * torch.finfo(dtype).eps * unit(dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 2, 27, 3000])
def test_a_row_of_equal_weights(dtype: torch.dtype, width: int) -> None:
    """It standardizes to 0, with the gradient of the numerator alone."""
    weight, dy = torch.full((3, width), 0.1).to(dtype), torch.randn(3, width).to(dtype)
    out, mean, std = standardize(weight, 1e-2)
    assert (out == 0).all()
    assert (std == 0).all()
    found = standardize_backward(dy, weight, mean, std, 1e-2).double()
    expected = (dy.double() - dy.double().mean(1, keepdim=True)) / 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=2 * torch.finfo(dtype).eps * 500)


def test_one_launch_per_direction() -> None:
    weight = torch.randn(4, 20)
    with launches() as names:
        _, mean, std = standardize(weight, EPS)
        standardize_backward(weight, weight, mean, std, EPS)
    assert names == ["standardize_kernel", "standardize_backward_kernel"]
