"""Every kernel against the float64 reference, over drawn shapes, rules and layouts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from switchnorm.ops import kernel, normalize
from tests.ops.triton.cases import SN, Case, cases, check
from tests.ops.triton.limits import CUTS, cut

pytestmark = pytest.mark.usefixtures("poisoned")

DTYPES = (torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.float64)


# Shrinking takes minutes in the interpreter.
@settings(max_examples=50, phases=(Phase.explicit, Phase.generate))
@given(cases(elements=600, dtypes=DTYPES), st.sampled_from(CUTS))
def test_agrees_with_the_reference(case: Case, limits: dict[str, int]) -> None:
    with cut(limits):
        check(case)


@pytest.mark.parametrize("limits", [CUTS[0], CUTS[2]], ids=str)
@pytest.mark.parametrize("statistics", [("instance",), ("layer", "group:2"), (*SN, "running")], ids=str)
def test_samples_that_share_no_statistics_do_not_touch_each_other(
    statistics: tuple[str, ...], limits: dict[str, int]
) -> None:
    """Neither a NaN nor a huge offset in one sample of a batch changes a bit of another one's result."""
    x = torch.randn(3, 4, 3, 5)
    running = (torch.randn(4), torch.rand(4)) if "running" in statistics else None
    statistics = tuple(name for name in statistics if name != "running")
    importance = [torch.full((len(statistics),), 1 / len(statistics)) for _ in range(2)]
    with cut(limits), kernel("triton"):
        y = normalize(x, statistics, *importance, running=running).y
        for spoiled in (float("nan"), float("inf"), 1e20):
            x[1] = spoiled
            again = normalize(x, statistics, *importance, running=running).y
            torch.testing.assert_close(again[::2], y[::2], rtol=0, atol=0)


@pytest.mark.parametrize("limits", CUTS[:2], ids=str)
def test_nan_passes_relu(limits: dict[str, int]) -> None:
    x = torch.randn(2, 4, 5, 5)
    x[0, 0, 0, 0] = float("nan")
    with cut(limits), kernel("triton"):
        y = normalize(x, ("instance",), activation="relu").y
    assert y[0, 0].isnan().all()
    assert y[1].isfinite().all()


@pytest.mark.parametrize("limits", CUTS[:2], ids=str)
def test_parameters_in_half_precision(limits: dict[str, int]) -> None:
    """As a `.half()` module has them: gradients in their dtype, no worse than rounding what float32 ones would be."""
    x, dy = torch.randn(2, 2, 8, 4, 4).half().unbind()
    wide = [torch.rand(count).half() for count in (3, 3, 8, 8)]

    def gradients(*parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in parameters]
        return torch.autograd.grad(normalize(x, SN, *leaves).y, leaves, dy)

    with cut(limits), kernel("triton"):
        narrow, exact = gradients(*wide), gradients(*(t.float() for t in wide))
    for ours, theirs in zip(narrow, exact, strict=True):
        assert ours.dtype == torch.half
        torch.testing.assert_close(ours.float(), theirs, rtol=1e-3, atol=1e-6)
