"""What the compiled path may be given: numbers at the end of their range, several dtypes, tensors without memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.ops import kernel, normalize
from switchnorm.ops.kernels.base import Operands
from switchnorm.ops.kernels.native.plan import plan
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.ops.rule import Rule
from tests.ops.kernels.contracts import LAYOUTS, ROUNDING, channels_last, native, without_level

pytestmark = pytest.mark.usefixtures("library", "poisoned")

SN = ("instance", "layer", "batch")
STATISTICS = (("instance",), ("group:3",), ("batch",), SN)
#: With maps of several blocks, and of rows, that are summed in the arithmetic of elements.
SHAPES = ((3, 6, 7, 5), (2, 9, 70, 61))


def laid(t: Tensor, layout: str) -> Tensor:
    return t.contiguous() if layout == "contiguous" else channels_last(t)


def drawn(shape: tuple[int, ...], statistics: tuple[str, ...], dtype: torch.dtype, layout: str) -> list[Tensor]:
    """x between -1 and 1, importance, weight, bias and dy; tables have the dtype of the arithmetic."""
    x, dy = laid(torch.rand(shape) * 2 - 1, layout).to(dtype), laid(torch.randn(shape), layout).to(dtype)
    wide = accumulation_dtype(dtype)
    tables = [torch.rand(len(statistics), dtype=wide).softmax(0) for _ in range(2)]
    tables += [torch.rand(shape[1], dtype=wide) + 0.5, torch.randn(shape[1], dtype=wide)]
    return [x, *tables, dy]


def passed(path: str, statistics: tuple[str, ...], given: list[Tensor], **options: Any) -> dict[str, Tensor]:
    """y, the batch's statistics and all gradients."""
    leaves = [t.detach().requires_grad_() for t in given[:-1]]
    with kernel(path):
        y, mean, var = normalize(leaves[0], statistics, *leaves[1:], **options)
        gradients = torch.autograd.grad(y, leaves, given[-1])
    found = {"y": y.detach(), **dict(zip(("x", "mean", "var", "weight", "bias"), gradients, strict=True))}
    found["mean"] = without_level(found["mean"])
    return found if mean is None or var is None else {**found, "batch mean": mean, "batch var": var}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("statistics", STATISTICS, ids=str)
def test_sums_of_squares_may_leave_the_range(statistics: tuple[str, ...], dtype: torch.dtype, layout: str) -> None:
    """As long as the variance does not: a power of 2 changes nothing but the gradient of x, which it divides."""
    # Sums of float64 have no wider numbers than squares.
    room = 10 if dtype is torch.float64 else 2
    root = math.log2(torch.finfo(accumulation_dtype(dtype)).max) / 2
    level = 2.0 ** min(round(root) - room, int(math.log2(torch.finfo(dtype).max)))
    for shape in SHAPES:
        x, *others = drawn(shape, statistics, dtype, layout)
        found = passed("cpu", statistics, [x * level, *others])
        exact = passed("reference", statistics, [t.double() for t in (x, *others)], eps=1e-5 / level / level)
        least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
        powers = {"x": 1, "batch mean": -1, "batch var": -2}
        for name, expected in exact.items():
            ours = found[name].double() * level ** powers.get(name, 0)
            largest = max(1.0, float(expected.abs().max()))
            bound = ROUNDING[dtype] * largest + (least * level if name == "x" else 0)
            assert float((ours - expected).abs().max()) <= bound, (shape, name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("statistics", STATISTICS, ids=str)
def test_variances_may_leave_the_range(statistics: tuple[str, ...], dtype: torch.dtype, layout: str) -> None:
    """Wherever the reference gives a number, in one call and in passes: the shift alone is left of the output."""
    largest = torch.finfo(dtype).max
    for shape in SHAPES:
        for level, offset in ((1e-6, 0.0), (0.3, 0.0), (0.9, 0.0), (0.02, 0.1), (0.02, -0.1)):
            x, *others = drawn(shape, statistics, dtype, layout)
            given = [(x * level + offset) * largest, *others]
            assert given[0].isfinite().all()
            expected, found = (passed(path, statistics, given) for path in ("reference", "cpu"))
            assert level > 0.5 or expected["y"].isfinite().any()
            for name, theirs in expected.items():
                finite = theirs.isfinite()
                torch.testing.assert_close(found[name][finite], theirs[finite], rtol=1e-2, atol=1e-6, msg=name)
            rule = Rule(statistics, shape[2] * shape[3], False, 1e-5, None, None, True)
            operands = Operands(*given[:-1], None, None)
            forward = native()._forward_in_passes(operands, rule, False)
            gradients = native()._backward_in_passes(forward, operands, rule, False, given[-1])
            for ours, theirs in ((forward.y, expected["y"]), (gradients.x, expected["x"])):
                finite = theirs.isfinite()
                assert ours is not None
                torch.testing.assert_close(ours[finite], theirs[finite], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_stays_none(bad: float, layout: str) -> None:
    x = laid(torch.randn(3, 6, 7, 5), layout)
    x[1, 2, 3, 4] = bad
    with kernel("cpu"):
        y, mean, var = normalize(x, ("batch",))
    assert y[:, 2].isnan().all()
    assert int(y.isnan().sum()) == 3 * 35
    assert mean is not None
    assert var is not None
    assert mean.isfinite().tolist() == var.isfinite().tolist() == [True, True, False, True, True, True]


DTYPES = [(torch.bfloat16, torch.float32), (torch.float16, torch.bfloat16), (torch.float32, torch.float64)]


@pytest.mark.parametrize(("dtype", "wider"), DTYPES, ids=str)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_residual_of_another_dtype_is_added_before_anything_is_rounded(
    dtype: torch.dtype, wider: torch.dtype, activation: Any, layout: str
) -> None:
    """Large numbers that cancel: one that was rounded before would be off by more than is left."""
    layer = switchnorm.SwitchNorm2d(6)
    nn.init.constant_(layer.bias, -1000.3)
    x = laid(torch.randn(3, 6, 7, 5), layout).to(dtype).requires_grad_()
    residual = laid(1000.3 + torch.rand(3, 6, 7, 5), layout).to(wider).requires_grad_()
    dy = laid(torch.randn(3, 6, 7, 5), layout).to(dtype)
    importance = [torch.full((3,), 1 / 3)] * 2
    calls: list[Callable[[], Tensor]] = [
        lambda: layer(x, residual, activation),
        lambda: normalize(x, SN, *importance, layer.weight, layer.bias, residual=residual, activation=activation).y,
    ]
    for call in calls:
        results = []
        for path in ("cpu", "reference"):
            with kernel(path):
                y = call()
                with torch.no_grad():
                    assert torch.equal(call(), y)
            results.append((y, *torch.autograd.grad(y, (x, residual, layer.weight), dy)))
        for ours, theirs in zip(*results, strict=True):
            assert ours.dtype == theirs.dtype
            # A sum of numbers of a thousand in the arithmetic of elements, and one rounding to the dtype.
            summed = 4000 * torch.finfo(accumulation_dtype(dtype)).eps
            near = (ours - theirs).abs() <= summed + 2 * torch.finfo(dtype).eps * (1 + theirs.abs())
            # ReLU may decide otherwise where a rounding does.
            assert near.double().mean() > (0.99 if activation else 0.9999)


def negated(t: Tensor) -> Tensor:
    """The same numbers by a view of those with the other sign."""
    return torch._neg_view(-t.detach())


def zeros(t: Tensor) -> Tensor:
    """Zeros that have no memory."""
    return torch._efficientzerotensor(t.shape, dtype=t.dtype)


@pytest.mark.parametrize("lazy", [negated, zeros])
@pytest.mark.parametrize("index", range(8))
def test_what_is_not_in_memory_as_it_is_is_not_read_there(index: int, lazy: Callable[[Tensor], Tensor]) -> None:
    """x, logits or importance, weight, bias, residual, a running statistic or the output's gradient."""
    layer = switchnorm.SwitchNorm2d(5).eval()
    given = [torch.randn(3, 5, 4, 6), *torch.rand(2, 3).softmax(1), torch.randn(5), torch.randn(5)]
    given += [torch.randn(3, 5, 4, 6), torch.rand(5) + 0.5, torch.randn(3, 5, 4, 6)]
    given[index] = lazy(given[index])
    assert given[index].is_neg() or given[index]._is_zerotensor()

    def by_normalize(x: Tensor, mean: Tensor, var: Tensor, *others: Tensor) -> Tensor:
        weight, bias, residual, running = others
        return normalize(x, SN, mean, var, weight, bias, residual=residual, running=(running, running)).y

    def by_layer(x: Tensor, mean: Tensor, var: Tensor, *others: Tensor) -> Tensor:
        weight, bias, residual, running = others
        layer._parameters.update(mean_weight=mean, var_weight=var, weight=weight, bias=bias)  # type: ignore[arg-type]
        layer._buffers.update(running_mean=running, running_var=running)
        y: Tensor = layer(x, residual)
        return y

    for call in (by_normalize, by_layer):
        results = []
        for path, values in (("cpu", given), ("reference", [torch.zeros(t.shape) + t for t in given])):
            leaves = [t.detach().requires_grad_() for t in values[:6]]
            with kernel(path):
                y = call(*leaves, values[6])
                results.append((y, *torch.autograd.grad(y, leaves, values[7])))
                with torch.no_grad():
                    torch.testing.assert_close(call(*leaves, values[6]), y)
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_another_momentum_is_no_other_plan() -> None:
    """As of averages over all batches so far, of which every step has its own."""
    layer, x = switchnorm.SwitchNorm2d(6), torch.randn(3, 6, 4, 5)
    expected = layer.running_mean.double()
    layer(x)
    of_batch = (layer.running_mean.double() - 0.9 * expected) / 0.1
    expected, plans = layer.running_mean.double(), plan.cache_info().currsize
    for step in range(1, 1001):
        layer.momentum = 1 / (step + 1)
        layer(x)
        expected += (of_batch - expected) / (step + 1)
    assert plan.cache_info().currsize == plans
    torch.testing.assert_close(layer.running_mean.double(), expected, rtol=0, atol=1e-4)
