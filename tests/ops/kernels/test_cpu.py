"""The CPU path against the reference in float64: float32 results and every gradient, on shapes that networks have."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import kernel, normalize
from switchnorm.ops.kernels import choice, cpu
from switchnorm.ops.kernels.base import Forward, Moments, Operands
from switchnorm.ops.rule import Rule

pytestmark = pytest.mark.usefixtures("poisoned")


class Case(NamedTuple):
    leaves: dict[str, Tensor]
    dy: Tensor
    statistics: tuple[str, ...]
    options: dict[str, Any]
    #: The largest |mean| / deviation of a map, which multiplies the rounding of the input's own mean.
    condition: float


def results(case: Case, path: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """y, the batch statistics and every gradient, in the given dtype by the given path."""
    leaves = {name: t.detach().to(dtype).requires_grad_() for name, t in case.leaves.items()}
    importance = [leaves[f"{moment}_logits"].softmax(0) for moment in ("mean", "var")]
    options = {**case.options}
    if "running" in options:
        options["running"] = tuple(t.to(dtype) for t in options["running"])
    with kernel(path):
        y, batch_mean, batch_var = normalize(
            leaves["x"],
            case.statistics,
            *importance,
            leaves.get("weight"),
            leaves.get("bias"),
            residual=leaves.get("residual"),
            **options,
        )
        gradients = torch.autograd.grad(y, list(leaves.values()), case.dy.to(dtype))
    found = {"y": y.detach(), **{f"d {name}": g for name, g in zip(leaves, gradients, strict=True)}}
    if batch_mean is not None and batch_var is not None:
        found |= {"batch mean": batch_mean, "batch var": batch_var}
    return found


def channels_last(t: Tensor) -> Tensor:
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    n = draw(st.integers(1, 5))
    c = draw(st.one_of(st.integers(1, 9), st.integers(1, 2100)))
    budget = max(1, 120_000 // (n * c))
    longest = draw(st.integers(1, min(budget, 9000)))
    dims = draw(st.integers(1, 3))
    sides = (longest, *(1,) * (dims - 1)) if draw(st.booleans()) else (round(longest ** (1 / dims)),) * dims
    groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
    names = ("instance", "layer", "batch", f"group:{groups}")
    statistics = tuple(draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    if n * torch.Size(sides).numel() == 1 and statistics == ("batch",):
        statistics = ("batch", "layer")
    offset = draw(st.sampled_from((0.0, 3.0, -100.0, 1e4)))
    # Every map has its own deviation and its own offset, so that some are far from 0 and others not.
    deviation = 2 ** normal(n, c, *(1 for _ in sides))
    x = normal(n, c, *sides) * deviation + offset * torch.rand(deviation.shape, generator=generator)
    layout = draw(st.sampled_from((torch.Tensor.contiguous, channels_last)))
    x = layout(x)
    leaves = {"x": x, "mean_logits": normal(len(statistics)), "var_logits": normal(len(statistics))}
    for name in ("weight", "bias"):
        if draw(st.booleans()):
            leaves[name] = normal(c)
    options: dict[str, Any] = {"unbiased": draw(st.booleans()), "eps": 1e-2}
    if draw(st.booleans()):
        leaves["residual"] = layout(normal(*x.shape))
    ghost = draw(st.one_of(st.none(), st.integers(1, n)))
    # A ghost batch of one element per channel has no batch statistic alone.
    if statistics != ("batch",) or x[0, 0].numel() > 1:
        options["ghost"] = ghost
    if draw(st.integers(0, 3)) == 0:
        options["running"] = (offset + normal(c), normal(c).exp())
    dy = draw(st.sampled_from((torch.Tensor.contiguous, channels_last)))(normal(*x.shape))
    # No deviation counts as less than sqrt(eps).
    return Case(leaves, dy, statistics, options, abs(offset) / max(0.1, float(deviation.min())))


@settings(max_examples=120)
@given(cases())
def test_agrees_with_the_reference_in_float64(case: Case) -> None:
    ours, theirs = results(case, "cpu", torch.float32), results(case, "reference", torch.float64)
    assert ours.keys() == theirs.keys()
    for name, exact in theirs.items():
        assert ours[name].dtype == torch.float32
        assert ours[name].shape == exact.shape
        scale = max(1.0, float(exact.abs().max()))
        error = float((ours[name].double() - exact).abs().max()) / scale
        bound = (150 + 2 * case.condition) * torch.finfo(torch.float32).eps
        assert error <= bound, f"{name} is off by {error:.1e}, which is more than {bound:.1e}"


@settings(max_examples=60)
@given(cases(), st.booleans())
def test_relu_is_that_of_the_same_path(case: Case, float64: bool) -> None:
    """Against ReLU after the same path: rounding may move an element across 0, so no other path will do."""
    dtype = torch.float64 if float64 else torch.float32
    leaves = {name: t.detach().to(dtype).requires_grad_() for name, t in case.leaves.items()}
    importance = [leaves[f"{moment}_logits"].softmax(0) for moment in ("mean", "var")]
    affine = (leaves.get("weight"), leaves.get("bias"))
    options = {k: tuple(t.to(dtype) for t in v) if k == "running" else v for k, v in case.options.items()}
    arguments = (leaves["x"], case.statistics, *importance, *affine)
    with kernel("cpu"):
        fused = normalize(*arguments, residual=leaves.get("residual"), activation="relu", **options).y
        plain = normalize(*arguments, **options).y
    plain = (plain + leaves["residual"] if "residual" in leaves else plain).relu()
    torch.testing.assert_close(fused, plain, rtol=0, atol=0)
    dy = case.dy.to(dtype)
    ours, theirs = (torch.autograd.grad(y, list(leaves.values()), dy, retain_graph=True) for y in (fused, plain))
    tolerance = 1e-12 if float64 else 1e-5
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(b.abs().max())))


SHAPES = {
    "rows": ((3, 40, 7, 7), torch.contiguous_format),
    "a large map, in pieces": ((1, 2, 96, 100), torch.contiguous_format),
    "a large map without divisors": ((1, 2, 8209, 1), torch.contiguous_format),
    "channels-last, whole": ((3, 40, 7, 7), torch.channels_last),
    "channels-last, folded": ((17, 512, 11, 11), torch.channels_last),
    "channels-last, by sample": ((2, 96, 40, 40), torch.channels_last),
    "channels-last, by sample, in pieces": ((2, 24, 80, 80), torch.channels_last),
    "single elements": ((1, 40, 1, 1), torch.contiguous_format),
}

#: What a table (N, C) is made of: layer statistics alone give one number per sample, batch statistics one per channel.
TABLES = {"each": (1, 1), "of samples": (1, 0), "of channels": (0, 1), "one": (0, 0)}


def table(shape: tuple[int, ...], kind: str) -> Tensor:
    """A table (N, C) whose numbers differ only along some dimensions, expanded along the others."""
    return torch.randn([n if differs else 1 for n, differs in zip(shape, TABLES[kind], strict=False)]).expand(shape[:2])


@pytest.mark.parametrize(("shape", "memory_format"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_every_way_to_sum(shape: tuple[int, ...], memory_format: torch.memory_format, offset: float) -> None:
    x = (torch.randn(shape) + offset).contiguous(memory_format=memory_format)
    dy = torch.randn(shape).contiguous(memory_format=memory_format)
    path = cpu.CpuKernel()
    mean, var, far = path.moments(x, 1.0)
    exact = x.double()
    torch.testing.assert_close(mean.double(), exact.mean((2, 3)), rtol=1e-7, atol=2e-5)
    torch.testing.assert_close(var.double(), exact.var((2, 3), correction=0), rtol=2e-5, atol=0)
    assert (far is False) == (offset == 0 and shape[2:] != (1, 1))
    total, product = path.sums(dy, x, mean, torch.ones_like(mean), far)
    difference = exact - mean.double()[..., None, None]
    size = shape[2] * shape[3]
    torch.testing.assert_close(total.double(), dy.double().sum((2, 3)), rtol=0, atol=1e-6 * size)
    torch.testing.assert_close(product.double(), (dy.double() * difference).sum((2, 3)), rtol=0, atol=1e-6 * size)


@pytest.mark.parametrize(("shape", "memory_format"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("far", [True, False])
@pytest.mark.parametrize("kind", TABLES)
def test_sums_about_a_centre_and_scaled(
    shape: tuple[int, ...], memory_format: torch.memory_format, far: bool, kind: str
) -> None:
    x, dy = (torch.randn(shape).contiguous(memory_format=memory_format) for _ in range(2))
    centre, scale = (table(shape, kind) for _ in range(2))
    total, product = cpu.CpuKernel().sums(dy, x, centre, scale, far)
    exact = ((x.double() - centre[..., None, None]) * dy * scale[..., None, None]).sum((2, 3))
    size = shape[2] * shape[3]
    torch.testing.assert_close(total.double(), dy.double().sum((2, 3)), rtol=0, atol=1e-6 * size)
    torch.testing.assert_close(product.double(), exact, rtol=0, atol=2e-6 * size)


@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, channels_last])
@pytest.mark.parametrize("shape", [(1, 160, 30, 30), (2, 40, 64, 64), (1, 40, 1, 1), (2, 1, 400, 400)], ids=str)
@pytest.mark.parametrize("statistics", [("layer",), ("batch",), ("group:1",)], ids=str)
def test_one_statistic_alone_has_a_small_table(
    statistics: tuple[str, ...], shape: tuple[int, ...], layout: Any
) -> None:
    """On samples too large for the drawn cases: what is shared is one number, which no pass may take for many."""
    if statistics == ("batch",) and shape[0] * shape[2] == 1:
        statistics = ("layer",)
    leaves = {"x": layout(torch.randn(shape)), "mean_logits": torch.randn(1), "var_logits": torch.randn(1)}
    case = Case(leaves, layout(torch.randn(shape)), statistics, {}, 0.0)
    ours, theirs = results(case, "cpu", torch.float32), results(case, "reference", torch.float64)
    for name, exact in theirs.items():
        torch.testing.assert_close(
            ours[name].double(), exact, rtol=1e-4, atol=1e-4 * max(1.0, float(exact.abs().max()))
        )


class Counting(cpu.CpuKernel):
    """Notes for which statistics moments were taken."""

    def __init__(self) -> None:
        self.took: list[tuple[str, ...]] = []

    def forward(self, operands: Operands, rule: Rule, *others: Any) -> Forward:
        self.took.append(rule.statistics)
        return super().forward(operands, rule, *others)

    def moments(self, x: Tensor, factor: float) -> Moments:
        self.took.append(("moments",))
        return super().moments(x, factor)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counted = Counting()
    monkeypatch.setattr(choice, "_load", lambda name: counted)
    return counted


ONE_HOT = torch.tensor([0.0, 0.0, 1.0])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_running_statistics_alone_need_no_moments(
    counting: Counting, memory_format: torch.memory_format, offset: float
) -> None:
    """Neither as the only statistic nor, in evaluation, as the only one of any importance."""
    x = (offset + torch.randn(5, 6, 9, 9)).contiguous(memory_format=memory_format).requires_grad_()
    dy = torch.randn_like(x)
    running = (offset + torch.randn(6), 0.5 + torch.rand(6))
    weight, bias = (torch.randn(6, requires_grad=True) for _ in range(2))
    logits = torch.zeros(1, requires_grad=True)
    calls = [
        (("batch",), (logits.softmax(0), logits.softmax(0))),
        (("instance", "layer", "batch"), (ONE_HOT, ONE_HOT)),
    ]
    for statistics, importance in calls:
        y = normalize(x, statistics, *importance, weight, bias, running=running).y
        found = torch.autograd.grad(y, (x, weight, bias), dy)
        wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
        normal = (wide[0] - running[0].double()[:, None, None]) / (running[1].double() + 1e-5)[:, None, None].sqrt()
        exact = normal * wide[1][:, None, None] + wide[2][:, None, None]
        expected = torch.autograd.grad(exact, wide, dy.double())
        torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-5)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4)
    assert counting.took == [("batch",)] * 2


def test_statistics_without_importance_are_left_out_only_where_nothing_asks_for_them(counting: Counting) -> None:
    x = torch.randn(4, 6, 5, 5)
    names = ("instance", "layer", "batch")
    instance_and_layer = torch.tensor([0.3, 0.7, 0.0])
    running = (torch.zeros(6), torch.ones(6))
    learned = instance_and_layer.clone().requires_grad_()

    def taken(mean: Tensor, var: Tensor, **options: Any) -> tuple[str, ...]:
        counting.took.clear()
        found = normalize(x, names, mean, var, **options)
        with kernel("reference"):
            expected = normalize(x, names, mean, var, **options)
        torch.testing.assert_close(found.y, expected.y)
        assert (found.batch_mean is None) == (expected.batch_mean is None)
        return counting.took[0]

    assert taken(instance_and_layer, instance_and_layer, running=running) == ("instance", "layer")
    assert taken(instance_and_layer, ONE_HOT, running=running) == names
    # Running statistics are made of the batch statistic; and what is learned has a gradient at 0 too.
    assert taken(ONE_HOT.flip(0), ONE_HOT.flip(0)) == ("instance", "batch")
    assert taken(instance_and_layer, learned, running=running) == names
    with torch.no_grad():
        assert taken(instance_and_layer, learned, running=running) == ("instance", "layer")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_constant_maps_have_no_variance(memory_format: torch.memory_format) -> None:
    """Among maps that have one, whatever the constant."""
    x = torch.randn(2, 5, 9, 9).contiguous(memory_format=memory_format)
    x[0, 1], x[1, 3], x[1, 4] = 0.0, 1.1, -3e7
    mean, var, _ = cpu.CpuKernel().moments(x, 1.0)
    constant = torch.zeros(2, 5, dtype=torch.bool)
    constant[[0, 1, 1], [1, 3, 4]] = True
    assert (var[constant] == 0).all()
    assert (var[~constant] > 0.3).all()
    torch.testing.assert_close(mean[constant], torch.tensor([0.0, 1.1, -3e7]), rtol=0, atol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_a_gradient_is_the_reference_s(memory_format: torch.memory_format) -> None:
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    residual = torch.randn_like(x).requires_grad_()
    importance = [torch.rand(3, dtype=torch.float64).softmax(0).requires_grad_() for _ in range(2)]
    leaves = (x, residual, *importance)
    dy, ddx = (torch.randn_like(x) for _ in range(2))
    found = []
    for path in ("cpu", "reference"):
        with kernel(path):
            y = normalize(x, ("instance", "layer", "batch"), *importance, residual=residual, activation="relu").y
        (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
        second = torch.autograd.grad(dx, leaves, ddx, allow_unused=True, materialize_grads=True)
        found.append((dx, *second))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("statistics", [("instance", "layer", "batch"), ("batch",), ("group:4",)], ids=str)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_residual", [False, True])
def test_what_is_saved_for_backward(statistics: tuple[str, ...], activation: Any, with_residual: bool) -> None:
    """The input, tables of (N, C), and no copy of anything else; y, where ReLU asks for it, is the output itself."""
    x = torch.randn(4, 8, 20, 20, requires_grad=True)
    residual = torch.randn_like(x).requires_grad_() if with_residual else None
    importance = [torch.ones(len(statistics)).softmax(0).requires_grad_() for _ in range(2)]
    saved: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with kernel("cpu"), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = normalize(x, statistics, *importance, residual=residual, activation=activation).y
    given = {t.untyped_storage().data_ptr() for t in (x, y)}
    others = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    tables = {pointer: size for pointer, size in others.items() if pointer not in given}
    assert x.untyped_storage().data_ptr() in others
    assert (y.untyped_storage().data_ptr() in others) == (activation == "relu")
    assert max(tables.values()) <= 4 * 8 * 4
    assert sum(tables.values()) <= (5 + 2 * len(statistics)) * 4 * 8 * 4 + 64


def test_the_output_can_be_changed_in_place() -> None:
    """Networks put `ReLU(inplace=True)` behind a normalization."""
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    with kernel("cpu"):
        y = normalize(x, ("instance", "layer"), *[torch.tensor([0.5, 0.5])] * 2).y
    expected = y.detach().clone().relu()
    y.relu_()
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
