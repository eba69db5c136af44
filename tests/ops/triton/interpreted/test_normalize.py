"""Every kernel against the float64 reference, over drawn shapes, rules and layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import kernel, normalize
from tests.ops.triton.cases import SN, Case, cases, check, laid_out, whole_case
from tests.ops.triton.launches import FUSED, PASSES, RESIDENT, launches
from tests.ops.triton.limits import CUTS, cut

pytestmark = pytest.mark.usefixtures("poisoned")

DTYPES = (torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.float64)


#: Each kind of kernel, statistic, layout and dtype, parts of the batch, what is added, and every way to cut: a shape,
#: dtype and layout, the rule, what else there is, the limits, and the kernels that all this takes.
MECHANISMS: list[tuple[tuple[int, ...], torch.dtype, str, tuple[str, ...], dict[str, Any], dict[str, int], Any]] = [
    ((3, 6, 5, 7), torch.float32, "contiguous", (*SN, "group:3"), {"relu": True}, CUTS[0], RESIDENT),
    ((4, 8, 3, 5), torch.float16, "channels last", SN, {"add": True, "relu": True}, CUTS[0], RESIDENT),
    ((3, 6, 5, 7), torch.bfloat16, "channels last", SN, {"add": True, "relu": True}, CUTS[1], FUSED),
    ((4, 6, 9, 7), torch.float16, "contiguous", SN, {"ghost": 2, "relu": True}, CUTS[2], FUSED),
    ((4, 6, 9, 7), torch.bfloat16, "contiguous", (*SN, "group:2"), {"add": True, "relu": True}, CUTS[2], FUSED),
    ((4, 10, 9, 7), torch.float64, "channels last", ("layer", "group:5"), {"add": True}, CUTS[3], FUSED),
    ((5, 6, 8, 4), torch.float32, "transposed", ("batch", "instance"), {"given": True}, CUTS[4], FUSED),
    ((4, 6, 2, 3, 4), torch.float32, "channels last", SN, {"unbiased": False}, CUTS[2], FUSED),
    ((7, 10), torch.float32, "contiguous", ("layer", "batch"), {"ghost": 7}, CUTS[1], FUSED),
    ((3, 6, 9, 7), torch.float32, "offset", SN, {"ghost": 2, "add": True, "relu": True}, CUTS[2], PASSES),
    ((4, 6, 6, 5), torch.bfloat16, "channels last", SN, {"ghost": (1, 0, 3)}, CUTS[4], PASSES),
    ((2, 12, 5, 3), torch.float64, "contiguous", ("group:3", "group:2"), {"relu": True}, CUTS[1], PASSES),
    # Rows that begin before their maps: whole ones and pieces, of vectors of 8, 4 and 2 elements, in either form.
    ((3, 16, 7, 7), torch.bfloat16, "contiguous", (*SN, "group:4"), {"add": True, "relu": True}, CUTS[1], FUSED),
    ((4, 8, 9, 11), torch.float16, "contiguous", SN, {"ghost": 2, "relu": True}, CUTS[2], FUSED),
    ((3, 12, 9, 5), torch.bfloat16, "offset", SN, {"given": True, "relu": True}, CUTS[4], FUSED),
    ((2, 8, 3, 5), torch.float32, "contiguous", ("instance", "layer"), {"relu": True}, CUTS[1], FUSED),
    ((5, 4, 9, 7), torch.float32, "contiguous", SN, {"add": True, "unbiased": False}, CUTS[4], FUSED),
    ((3, 6, 5, 5), torch.float64, "contiguous", (*SN, "group:3"), {"add": True, "relu": True}, CUTS[2], FUSED),
    ((4, 8, 11, 5), torch.bfloat16, "contiguous", SN, {"ghost": (1, 0, 3), "relu": True}, CUTS[2], PASSES),
]


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "statistics", "options", "limits", "expected"), MECHANISMS, ids=str
)
def test_every_mechanism(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    layout: str,
    statistics: tuple[str, ...],
    options: dict[str, Any],
    limits: dict[str, int],
    expected: tuple[list[str], list[str]],
) -> None:
    options = dict(options)
    case = whole_case(shape, statistics, ghost=options.pop("ghost", None), relu=options.pop("relu", False))
    if options.pop("given", False):
        case = case._replace(running=(3 + torch.randn(shape[1]), torch.rand(shape[1]) + 0.5))
    if options.pop("add", False):
        case = case._replace(residual=torch.randn(shape))
    case = case._replace(**options)
    elements = {
        name: laid_out(t.to(dtype), layout)
        for name in ("x", "dy", "residual")
        if (t := getattr(case, name)) is not None
    }
    if dtype == torch.float64:
        case = case.to(torch.Tensor.double)
    with cut(limits), launches() as names:
        check(case._replace(**elements))
    assert names == [*expected[0], *expected[1]]


def agrees(case: Case, limits: dict[str, int]) -> None:
    with cut(limits):
        check(case)


DRAWN = (cases(elements=600, dtypes=DTYPES), st.sampled_from(CUTS))
# Shrinking takes minutes in the interpreter.
PHASES = (Phase.explicit, Phase.generate)


@settings(max_examples=10, phases=PHASES)
@given(*DRAWN)
def test_agrees_with_the_reference(case: Case, limits: dict[str, int]) -> None:
    agrees(case, limits)


@pytest.mark.sweep
@settings(max_examples=200, phases=PHASES)
@given(*DRAWN)
def test_many_more_agree_with_the_reference(case: Case, limits: dict[str, int]) -> None:
    agrees(case, limits)


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


@pytest.mark.parametrize("limits", CUTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_maps_that_share_vectors_do_not_touch_each_other(limits: dict[str, int], dtype: torch.dtype) -> None:
    """Nor do maps that are read together since they lie next to each other."""
    x, dy = torch.randn(2, 2, 8, 7, 11).to(dtype).unbind()

    def results() -> Tensor:
        leaf = x.detach().requires_grad_()
        y = normalize(leaf, ("instance",), activation="relu").y
        return torch.stack((y.detach(), *torch.autograd.grad(y, leaf, dy)))

    with cut(limits), kernel("triton"):
        clean = results()
        for channel, spoiled in ((0, float("nan")), (3, float("inf")), (6, 1e20)):
            x[0, channel] = dy[0, channel] = spoiled
        again = results()
    others = [1, 2, 4, 5, 7]
    torch.testing.assert_close(again[:, 0, others], clean[:, 0, others], rtol=0, atol=0)
    torch.testing.assert_close(again[:, 1], clean[:, 1], rtol=0, atol=0)


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


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("limits", CUTS[1:4], ids=str)
def test_given_statistics_alone_take_no_moments(limits: dict[str, int], memory_format: torch.memory_format) -> None:
    """And the gradients, which do without them too, are those of the reference."""
    x, dy, residual = (torch.randn(3, 6, 9, 7).contiguous(memory_format=memory_format) for _ in range(3))
    none = torch.zeros(1)
    tables = (torch.randn(6), torch.randn(6))
    for relu in (False, True):
        running = (torch.randn(6), torch.rand(6) + 0.5)
        case = Case(x, dy, ("batch",), none, none, *tables, residual, running, relu, 1e-5, None, True)
        with cut(limits), launches() as names:
            leaves = [t.detach().requires_grad_() for t in (x, *tables, residual)]
            found = run_given(case, leaves, "triton")
        with kernel("reference"):
            wide = [t.detach().double().requires_grad_() for t in (x, *tables, residual)]
            expected = run_given(case.to(torch.Tensor.double), wide, "reference")
        assert names == ["normalize_kernel", "gradient_sums_kernel", "gradient_kernel"]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-5 * (float(theirs.abs().max()) + 1))


def run_given(case: Case, leaves: list[Tensor], name: str) -> list[Tensor]:
    """y and gradients of a normalization by running statistics alone."""
    x, weight, bias, residual = leaves
    activation = "relu" if case.relu else None
    options: Any = {"running": case.running, "residual": residual, "activation": activation}
    with kernel(name):
        y = normalize(x, case.statistics, None, None, weight, bias, **options).y
        return [y.detach(), *torch.autograd.grad(y, leaves, case.dy)]
