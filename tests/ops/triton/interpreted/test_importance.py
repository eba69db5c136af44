"""Importance from logits, and its gradient, on the device, against PyTorch's own operations in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from switchnorm.ops.kernels.triton import bundles
from switchnorm.ops.kernels.triton.bundles import Logits
from switchnorm.ops.kernels.triton.importance import write_importance, write_logit_gradients
from switchnorm.ops.projection import GIVEN, SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT
from tests.ops.triton.cases import Choice, importance_of


@triton.jit
def both_kernel(
    out_ptr, grads_ptr, dmean_ptr, dvar_ptr, mean_ptr, var_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr,
    CHOICE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Importance of mean and variance (2, 4), and the gradients of logits for given ones of it."""
    logits = Logits(mean_ptr, var_ptr, mean_fixed_ptr, var_fixed_ptr, radius_ptr)
    write_importance(out_ptr, logits, CHOICE, ACC)
    write_logit_gradients(tl.load(grads_ptr + tl.arange(0, 8)), dmean_ptr, dvar_ptr, logits, CHOICE, ACC)


def on_device(mean: Tensor, var: Tensor, choice: Choice, members: int, grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Importance (2, 4), and both gradients, which memory of NaN receives."""
    out = torch.full((2, 4), float("nan"), dtype=torch.float64)
    of_mean, of_var = torch.full_like(mean, float("nan")), torch.full_like(var, float("nan"))
    both_kernel[1,](
        out, grads, of_mean, of_var, mean, var, choice.mean_fixed, choice.var_fixed, choice.radius,
        CHOICE=bundles.Choice(len(mean), members, choice.projection, choice.tied), ACC=tl.float64,
    )  # fmt: skip
    return out, of_mean, of_var


def of_members(members: int, count: int) -> list[int]:
    return [k for k in range(count) if members >> k & 1]


def check(mean: Tensor, var: Tensor, choice: Choice, members: int) -> tuple[Tensor, Tensor, Tensor]:
    kept = of_members(members, len(mean))
    grads = torch.zeros(2, 4, dtype=torch.float64)
    grads[:, kept] = torch.randn(2, len(kept), dtype=torch.float64)
    out, of_mean, of_var = on_device(mean, var, choice, members, grads)
    leaves = [t.clone().requires_grad_() for t in (mean, var)]
    expected = importance_of(leaves[0][kept], leaves[1][kept], choice)
    gradients = torch.autograd.grad(expected, leaves, list(grads[:, kept]), allow_unused=True)
    for ours, theirs in zip(out[:, kept], expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip((of_mean, of_var), gradients, strict=True):
        torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs, rtol=1e-9, atol=1e-9)
    return out[:, kept], of_mean, of_var


#: How many logits there are, and which of them take part, as bits.
MEMBERS = [(1, 1), (2, 3), (3, 7), (3, 6), (4, 15), (4, 11)]


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("projection", [GIVEN, SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT])
@pytest.mark.parametrize(("count", "members"), MEMBERS)
def test_agrees_with_plain_operations(count: int, members: int, projection: int, shared: bool) -> None:
    torch.manual_seed(count + 10 * members + 100 * projection)
    ways = [(tied, 0, 0.0) for tied in (False, True)]
    if projection in (SPARSE_SIMPLEX, SPARSE_SUPPORT):
        # Only SparsestMax knows of final choices and of a radius.
        ways = list(itertools.product((False, True), (0, 1, 2, 3), (0.0, 0.2, 0.5, 0.7, 1.0)))
        if shared:
            ways = ways[MEMBERS.index((count, members)) :: len(MEMBERS)]
    for tied, fixed, radius in ways:
        mean, var = 1.5 * torch.randn(2, count, dtype=torch.float64)
        check(mean, var, Choice.of(projection, tied, fixed, radius), members)


@pytest.mark.parametrize("projection", [SPARSE_SIMPLEX, SPARSE_SUPPORT])
@pytest.mark.parametrize("logits", [(1.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 2.0, 2.0), (1e30, -1e30, 0.0)], ids=str)
def test_ties_and_extremes(logits: tuple[float, ...], projection: int) -> None:
    mean = torch.tensor(logits, dtype=torch.float64)
    for radius in (0.0, 0.3, 1.0):
        check(mean, mean.flip(0).contiguous(), Choice.of(projection, False, 0, radius), 7)


@pytest.mark.parametrize("projection", [SPARSE_SIMPLEX, SPARSE_SUPPORT])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_what_is_not_finite_is_seen(bad: float, projection: int) -> None:
    mean, var = torch.tensor([[0.0, bad, 1.0], [0.5, 0.0, 1.0]], dtype=torch.float64)
    choice = Choice.of(projection, False, 0, 0.5)
    out, of_mean, of_var = on_device(mean, var, choice, 7, torch.randn(2, 4, dtype=torch.float64))
    assert out[0, :3].isnan().all()
    assert of_mean.isnan().all()
    assert out[1, :3].isfinite().all()
    assert of_var.isfinite().all()


def test_a_final_choice_has_a_gradient_of_zero_and_a_tied_one_goes_to_both() -> None:
    mean, var = torch.tensor([[0.3, 0.1, 0.0], [0.2, 0.4, 0.5]], dtype=torch.float64)
    out, of_mean, of_var = check(mean, var, Choice.of(SPARSE_SUPPORT, False, 1, 0.2), 7)
    assert out[0].max() == 1
    assert not of_mean.any()
    assert of_var.any()
    _, of_mean, of_var = check(mean, var, Choice.of(SOFTMAX, True, 0, 0.0), 7)
    assert torch.equal(of_mean, of_var)
    assert of_mean.any()
