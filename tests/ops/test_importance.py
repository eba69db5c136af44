"""SSN's importance on Python numbers against the tensor operations that it stands for."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import importance
from switchnorm.ops.importance import sparse_importance

Centre = Literal["simplex", "support"]
CENTRES: tuple[Centre, ...] = ("simplex", "support")
FREE, FINAL = torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long)


@st.composite
def logits(draw: st.DrawFn) -> list[Tensor]:
    """Two sets of logits, near each other, far apart, or tied."""
    k = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = draw(st.sampled_from((0.0, 0.01, 1.0, 30.0, 1e300)))
    pair = torch.randn(2, k, generator=generator, dtype=torch.float64) * size
    return list((pair.round() if draw(st.booleans()) else pair).unbind())


RADII = st.one_of(st.sampled_from((0.0, 0.3, (1 / 2) ** 0.5, (2 / 3) ** 0.5, 1.0)), st.floats(0, 1))


@given(logits(), RADII, st.sampled_from(CENTRES), st.sampled_from((torch.float32, torch.float64)), st.booleans())
def test_agrees_with_the_tensor_operations(
    pair: list[Tensor], radius: float, centre: Centre, dtype: torch.dtype, final: bool
) -> None:
    # The same logits for both, which float32 holds.
    pair = [t.clamp(-3e38, 3e38).to(dtype) for t in pair]
    fixed = (FREE, FINAL if final else FREE)
    cotangents = [torch.randn(t.shape, dtype=torch.float64) for t in pair]
    found, expected = [], []
    for results, wide in ((found, dtype), (expected, torch.float64)):
        leaves = [t.to(wide).requires_grad_() for t in pair]
        size = torch.tensor([radius], dtype=torch.float64)
        points = (sparse_importance if results is found else importance._plain)(*leaves, *fixed, size, centre)
        given = [t.to(wide) for t in cotangents]
        results += [t.detach() for t in points]
        results += torch.autograd.grad(points, leaves, given, allow_unused=True, materialize_grads=True)
    eps = torch.finfo(dtype).eps
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=4 * eps)
    for ours, theirs in zip(found[2:], expected[2:], strict=True):
        # Near ties the slope grows without bound, and with it the rounding of the direction.
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=max(16 * eps, 1e-10) * (1 + theirs.abs().max()))
    if final:
        assert (found[3] == 0).all()


@pytest.mark.parametrize("centre", CENTRES)
def test_a_choice_is_exactly_one_hot(centre: Centre) -> None:
    mean, var = (torch.randn(3) for _ in range(2))
    for point in sparse_importance(mean, var, FREE, FREE, torch.ones(1), centre):
        assert sorted(point.tolist()) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("centre", CENTRES)
def test_gradients_of_first_and_second_order(radius: float, centre: Centre) -> None:
    mean = torch.tensor([0.3, -0.1, 0.15], dtype=torch.float64, requires_grad=True)
    var = torch.tensor([0.9, -1.3, 0.4], dtype=torch.float64, requires_grad=True)
    size = torch.tensor([radius], dtype=torch.float64)

    def both(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        return sparse_importance(mean, var, FREE, FREE, size, centre)

    assert torch.autograd.gradcheck(both, (mean, var))
    assert torch.autograd.gradgradcheck(both, (mean, var))


def test_one_of_the_two_may_be_all_that_is_differentiated() -> None:
    mean, var = (torch.tensor([0.3, -0.1, 0.15], dtype=torch.float64, requires_grad=True) for _ in range(2))
    of_mean, _ = sparse_importance(mean, var, FREE, FREE, torch.zeros(1), "support")
    cotangent = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    (once,) = torch.autograd.grad(of_mean, mean, cotangent, retain_graph=True)
    (again,) = torch.autograd.grad(of_mean, mean, cotangent, create_graph=True)
    torch.testing.assert_close(once, again, rtol=0, atol=1e-15)
    torch.testing.assert_close(once, torch.tensor([2 / 3, -1 / 3, -1 / 3], dtype=torch.float64))


def test_transforms_and_other_devices_take_tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = torch.randn(2, 4, 3)
    expected = torch.stack(
        [torch.stack(sparse_importance(*p, FREE, FREE, torch.ones(1) / 3, "simplex")) for p in pair.unbind(1)]
    )
    monkeypatch.setattr(importance, "_project", lambda *_: pytest.fail("read a transformed tensor"))

    def both(mean: Tensor, var: Tensor) -> Tensor:
        return torch.stack(sparse_importance(mean, var, FREE, FREE, torch.ones(1) / 3, "simplex"))

    torch.testing.assert_close(torch.func.vmap(both)(*pair), expected)
    on_meta = [t.to("meta") for t in (pair[0, 0], pair[1, 0], FREE, FREE, torch.ones(1))]
    assert all(t.is_meta for t in sparse_importance(*on_meta, "simplex"))


@pytest.mark.parametrize("computed", [importance.sparse_importance, importance._plain])
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_give_none(bad: float, centre: Centre, computed: Any) -> None:
    """And no error: a training that diverged is recorded as that."""
    fixed, radius = torch.zeros(1), torch.tensor([0.3])
    mean = torch.tensor([0.1, bad, 0.2], requires_grad=True)
    of_mean, of_var = computed(mean, torch.ones(3), fixed, fixed, radius, centre)
    of_mean.sum().backward()
    assert of_mean.isnan().all()
    assert mean.grad is not None
    assert mean.grad.isnan().all()
    assert of_var.isfinite().all()
