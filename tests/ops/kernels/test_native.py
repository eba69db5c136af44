"""The compiled CPU path against the reference in float64: results and all gradients, on shapes of networks."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.ops import kernel, normalize
from switchnorm.ops.kernels import choice
from switchnorm.ops.kernels.native import build, library
from tests.ops.kernels.contracts import (
    CONTRACTS,
    LAYOUTS,
    ROUNDING,
    Contract,
    channels_last,
    compared,
    given_importance,
    made,
    native,
    without_level,
)
from tests.ops.kernels.contracts import results as by_contract

pytestmark = pytest.mark.usefixtures("library", "poisoned")


class Case(NamedTuple):
    leaves: dict[str, Tensor]
    dy: Tensor
    statistics: tuple[str, ...]
    options: dict[str, Any]
    #: The largest |mean| / deviation of a map, which multiplies the rounding of the input's own mean.
    condition: float


def results(case: Case, path: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """As `computed`, without what is nobody's of the mean's importance."""
    found = computed(case, path, dtype)
    return {**found, "d mean_logits": without_level(found["d mean_logits"])}


def computed(case: Case, path: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """y, the batch statistics and every gradient, in the given dtype by the given path."""
    # Importance and running statistics have the dtype of statistics.
    small = torch.promote_types(dtype, torch.float32)
    dtypes = {name: small if name.endswith("logits") else dtype for name in case.leaves}
    leaves = {name: t.detach().to(dtypes[name]).requires_grad_() for name, t in case.leaves.items()}
    importance = given_importance(leaves["mean_logits"], leaves["var_logits"])
    leaves |= dict(zip(("mean_logits", "var_logits"), importance, strict=True))
    options = {**case.options}
    if "running" in options:
        options["running"] = tuple(t.to(small) for t in options["running"])
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


def agrees(case: Case) -> None:
    """In float32 with the reference in float64."""
    ours, theirs = computed(case, "cpu", torch.float32), computed(case, "reference", torch.float64)
    assert ours.keys() == theirs.keys()
    eps = torch.finfo(torch.float32).eps
    for name, exact in theirs.items():
        assert ours[name].dtype == torch.float32
        assert ours[name].shape == exact.shape
        off = ours[name].double() - exact
        # Rounded with the level that the means of all statistics share, an offset of the input's, and compared without.
        error = float((without_level(off) if name == "d mean_logits" else off).abs().max())
        bound = (150 + 2 * case.condition) * eps * max(1.0, float(exact.abs().max()))
        if name in ("d mean_logits", "d var_logits", "d weight", "d bias"):
            # Sums over many elements: chance may bring one near 0, but not the roundings of what is summed.
            terms = case.dy.numel() / (1 if name.endswith("logits") else exact.numel())
            bound += 2 * eps * terms**0.5
        assert error <= bound, f"{name} is off by {error:.1e}, which is more than {bound:.1e}"


@settings(max_examples=60)
@given(cases())
def test_agrees_with_the_reference_in_float64(case: Case) -> None:
    agrees(case)


@settings(max_examples=30)
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
    "fewer elements than a vector": ((3, 9, 1, 3), torch.contiguous_format),
    "blocks of a large map": ((1, 2, 96, 100), torch.contiguous_format),
    "a large map without divisors": ((1, 2, 8209, 1), torch.contiguous_format),
    "channels-last": ((3, 40, 7, 7), torch.channels_last),
    "channels-last, odd channels": ((3, 13, 9, 8), torch.channels_last),
    "channels-last, fewer channels than a vector": ((2, 3, 40, 41), torch.channels_last),
    "channels-last, in pieces": ((2, 96, 80, 80), torch.channels_last),
    "single elements": ((1, 40, 1, 1), torch.contiguous_format),
}


@pytest.mark.parametrize(("shape", "memory_format"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_single_passes(shape: tuple[int, ...], memory_format: torch.memory_format, offset: float) -> None:
    """Those that synchronised statistics are made of."""
    x = (torch.randn(shape) + offset).contiguous(memory_format=memory_format)
    dy = torch.randn(shape).contiguous(memory_format=memory_format)
    path = native()
    mean, var = path.moments(x)
    exact, size = x.double(), shape[2] * shape[3]
    torch.testing.assert_close(mean, exact.mean((2, 3)), rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(var, exact.var((2, 3), correction=0), rtol=1e-6, atol=0)
    scale, b, c = (torch.randn(shape[:2]) for _ in range(3))
    shift = torch.randn(shape[1])

    def over(table: Tensor) -> Tensor:
        return table.double()[..., None, None]

    y = path.affine(x, mean, scale, shift)
    assert y.is_contiguous(memory_format=memory_format)
    expected = (exact - over(mean)) * over(scale) + over(shift[None])
    torch.testing.assert_close(y.double(), expected, rtol=1e-6, atol=1e-5)
    total, product = path.sums(dy, x, mean, scale)
    torch.testing.assert_close(total, dy.double().sum((2, 3)), rtol=0, atol=1e-7 * size)
    product_of = ((exact - over(mean)) * dy * over(scale)).sum((2, 3))
    torch.testing.assert_close(product, product_of, rtol=0, atol=2e-7 * size)
    dx = path.combine(dy, scale, x, mean, b, c)
    expected = dy * over(scale) + (exact - over(mean)) * over(b) + over(c)
    torch.testing.assert_close(dx.double(), expected, rtol=1e-6, atol=1e-5)


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


ONE_HOT = torch.tensor([0.0, 0.0, 1.0])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_running_statistics_alone_need_no_moments(memory_format: torch.memory_format, offset: float) -> None:
    """Neither as the only statistic nor, in evaluation, as the only one of importance: one NaN stays one."""
    x = (offset + torch.randn(5, 6, 9, 9)).contiguous(memory_format=memory_format)
    x[1, 2, 3, 4] = float("nan")
    x.requires_grad_()
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
        torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-5, equal_nan=True)
        assert int(y.isnan().sum()) == 1
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4, equal_nan=True)


def test_statistics_without_importance_are_left_out_only_where_nothing_asks_for_them() -> None:
    """A map with NaN shows whether the layer statistic of its sample was taken into account: 0 * NaN is NaN."""
    x = torch.randn(4, 6, 5, 5)
    x[1, 2, 3, 4] = float("nan")
    names = ("instance", "layer", "batch")
    instance, learned = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    running = (torch.zeros(6), torch.ones(6))

    def spoiled(*importance: Tensor, **options: Any) -> int:
        return int(normalize(x, names, *importance, **options).y.isnan().sum())

    assert spoiled(instance, instance, running=running) == 25
    assert spoiled(instance, learned, running=running) == 6 * 25
    with torch.no_grad():
        assert spoiled(instance, learned, running=running) == 25
    # In training running statistics are made of the batch's.
    assert normalize(x, names, instance, instance).batch_mean is not None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_constant_maps_have_no_variance(memory_format: torch.memory_format) -> None:
    """Among maps that have one, whatever the constant."""
    x = torch.randn(2, 5, 9, 9).contiguous(memory_format=memory_format)
    x[0, 1], x[1, 3], x[1, 4] = 0.0, 1.1, -3e7
    mean, var = native().moments(x)
    constant = torch.zeros(2, 5, dtype=torch.bool)
    constant[[0, 1, 1], [1, 3, 4]] = True
    assert (var[constant] == 0).all()
    assert (var[~constant] > 0.3).all()
    torch.testing.assert_close(mean[constant], torch.tensor([0.0, 1.1, -3e7]).double(), rtol=0, atol=0)


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
    """The input, tables of (N, C), and no copy of anything else; the output itself behind a residual and ReLU."""
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
    assert (y.untyped_storage().data_ptr() in others) == (activation == "relu" and with_residual)
    # Three tables in float64, the statistics' own, which are smaller, and the points of importance.
    k = len(statistics)
    assert sum(tables.values()) <= (3 + k) * 4 * 8 * 8 + 2 * (3 * k + 3) * 8 + 2 * k * 4


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


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_every_contract(contract: Contract, dtype: torch.dtype, layout: str) -> None:
    """In every dtype and layout, against float64; and the same bits for any number of threads, and again."""
    case = made(contract, layout, dtype)
    exact = by_contract(case, "reference", torch.float64)
    first: dict[str, Tensor] = {}
    for count in (1, 2, 3, 7, 7):
        torch.set_num_threads(count)
        found = by_contract(case, "cpu", dtype)
        compared(found, exact, dtype)
        for name, each in found.items():
            assert torch.equal(each, first.setdefault(name, each)), f"{name} with {count} threads"


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pool_of_an_older_torch(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits by OpenMP's teams, which torch is built on where it is GNU's, and without any threads."""
    torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    team = ctypes.cast(torch_cpu.GOMP_parallel, ctypes.c_void_p).value
    case = made(CONTRACTS["sn"], layout, torch.float32)
    torch.set_num_threads(3)
    expected = by_contract(case, "cpu", torch.float32)
    usual = library.load()
    assert isinstance(usual, library.Library)
    for other in (team, 0):
        monkeypatch.setattr(choice, "load", lambda other=other: usual._replace(parallel=0, team=other))
        found = by_contract(case, "cpu", torch.float32)
        assert all(torch.equal(found[name], each) for name, each in expected.items())


@pytest.mark.sweep
@settings(max_examples=10_000, deadline=None)
@given(cases())
def test_agrees_on_many_shapes(case: Case) -> None:
    agrees(case)


def test_nothing_outside_of_tensors_is_touched() -> None:
    """Every tensor ends, or begins, at a page that must not be touched: in a process of its own, which would crash."""
    run = subprocess.run([sys.executable, "-m", "tests.ops.kernels.guarded"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 30


def test_a_fork_with_one_thread_computes() -> None:
    """After its parent has, as the workers of a loader do; with more threads torch's own kernels hang too."""
    layer, x = switchnorm.SwitchNorm2d(8), torch.randn(4, 8, 30, 30)
    expected = layer(x).detach()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        os.write(writer, b"y" if torch.equal(layer(x).detach(), expected) else b"n")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"y"
    os.waitpid(child, 0)


def test_other_instructions() -> None:
    """The variant for processors that have no others gives the same up to rounding."""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-m", "tests.ops.kernels.contracts", str(build.BUILT)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(len(CONTRACTS) * len(LAYOUTS) * len(ROUNDING)), "baseline"]


@pytest.mark.parametrize("kind", [switchnorm.SwitchNorm2d, switchnorm.SparseSwitchNorm2d])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_differences(kind: Any, training: bool) -> None:
    """Of a layer as a whole, and of its gradients."""
    layer = kind(3).double().train(training)
    if kind is switchnorm.SparseSwitchNorm2d:
        layer.set_radius(0.2)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.linspace(0.4, 1.1, len(p)))
    x, residual = (torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def call(x: Tensor, residual: Tensor, *_: Tensor) -> Tensor:
        y: Tensor = layer(x, residual)
        return y

    assert torch.autograd.gradcheck(call, (x, residual, *layer.parameters()))
    assert torch.autograd.gradgradcheck(call, (x, residual, *layer.parameters()))


@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, channels_last])
def test_saved_tensors_may_come_back_in_another_layout(layout: Any) -> None:
    layer = switchnorm.SwitchNorm2d(6)
    x, dy = layout(torch.randn(3, 6, 5, 4)).requires_grad_(), torch.randn(3, 6, 5, 4)
    leaves = (x, *layer.parameters())
    expected = torch.autograd.grad(layer(x), leaves, dy)
    other = channels_last if layout is torch.Tensor.contiguous else torch.Tensor.contiguous
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: other(t) if t.dim() == 4 else t):
        y = layer(x)
    for ours, theirs in zip(torch.autograd.grad(y, leaves, dy), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.float(), lambda t: t):
        y = layer(x)
    with pytest.raises(RuntimeError, match="changed since its forward pass, by a hook of saved tensors"):
        torch.autograd.grad(y, leaves, dy)


def spread(t: torch.Tensor) -> torch.Tensor:
    """The same numbers with gaps between."""
    return torch.stack([t, t.flip(0)], -1)[..., 0]


def test_saved_tensors_may_come_back_with_gaps_and_not_of_other_shapes() -> None:
    layer = switchnorm.SwitchNorm2d(6)
    x, dy = torch.randn(4, 6, 5, 5, requires_grad=True), torch.randn(4, 6, 5, 5)
    leaves = (x, *layer.parameters())
    expected = torch.autograd.grad(layer(x), leaves, dy)
    for other in (spread, lambda t: t.mT.contiguous().mT if t.dim() == 4 else t):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, other):
            y = layer(x)
        for ours, theirs in zip(torch.autograd.grad(y, leaves, dy), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    for lost in (lambda t: t[:1], lambda t: t.to("meta")):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lost):
            y = layer(x)
        with pytest.raises(RuntimeError, match="changed since its forward pass"):
            torch.autograd.grad(y, leaves, dy)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_parameters_may_change_their_dtype_before_the_gradient(dtype: torch.dtype) -> None:
    layer = switchnorm.SwitchNorm2d(4)
    x, dy = torch.randn(3, 4, 5, 5, requires_grad=True), torch.randn(3, 4, 5, 5)
    (expected,) = torch.autograd.grad(layer(x), x, dy)
    y = layer(x)
    layer.to(dtype)
    (found,) = torch.autograd.grad(y, x, dy)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 if dtype is torch.float16 else 1e-6)


def test_running_statistics_that_do_not_fit_are_not_written() -> None:
    layer, memory = switchnorm.SwitchNorm2d(64), torch.zeros(64)
    layer.running_mean = memory[:1]
    with pytest.raises(InputError, match=r"running statistics of this input are tables of 64 numbers, got \(1,\)"):
        layer(torch.randn(3, 64, 5, 5))
    assert not memory.any()
    layer = switchnorm.SwitchNorm2d(4)
    layer.num_batches_tracked = torch.zeros(0, dtype=torch.int64)
    with kernel("reference"):
        expected = layer(x := torch.randn(3, 4, 5, 5))
    torch.testing.assert_close(layer(x), expected)


def test_the_default_device_does_not_matter() -> None:
    code = """
import torch, switchnorm
layer, x = switchnorm.SwitchNorm2d(4), torch.randn(3, 4, 5, 5, requires_grad=True)
with torch.device("meta"):
    first = layer(x)
dy = torch.randn(3, 4, 5, 5)
(found,) = torch.autograd.grad(first, x, dy)
with switchnorm.ops.kernel("reference"):
    (expected,) = torch.autograd.grad(layer(x), x, dy)
torch.testing.assert_close(found, expected)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_given_importance_of_0_has_a_gradient() -> None:
    x, dy = torch.randn(4, 3, 5, 5) + 1, torch.randn(4, 3, 5, 5)

    def gradients() -> tuple[torch.Tensor, ...]:
        importance = [torch.tensor([0.0, 0.5, 0.5], requires_grad=True) for _ in range(2)]
        y, *_ = normalize(x, ("instance", "layer", "batch"), *importance)
        return torch.autograd.grad(y, importance, dy)

    with kernel("reference"):
        expected = gradients()
    torch.testing.assert_close(gradients(), expected, rtol=1e-4, atol=1e-4)
    assert expected[1][0] != 0


def test_buffers_of_inference_mode_hide_no_write() -> None:
    layer = switchnorm.SparseSwitchNorm2d(4)
    with torch.inference_mode():
        layer.radius = torch.full((1,), 0.3)
    y = layer(torch.randn(3, 4, 5, 5))
    with torch.no_grad():
        layer.weight.mul_(10)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["weight", "var_weight", "radius", "running_var"])
def test_what_is_written_before_the_gradient_raises(name: str) -> None:
    layer = switchnorm.SparseSwitchNorm2d(4).eval()
    y = layer(torch.randn(3, 4, 5, 5))
    with torch.no_grad():
        {**layer._parameters, **layer._buffers}[name].mul_(2)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_tables_of_several_dtypes() -> None:
    """Which the library is given in one that holds both; gradients have those of the tables."""
    layer = switchnorm.SwitchNorm2d(4)
    wide = switchnorm.SwitchNorm2d(4).double()
    for name in ("bias", "var_weight"):
        setattr(layer, name, nn.Parameter(getattr(layer, name).detach().double()))
    x = torch.randn(3, 4, 5, 5)
    with kernel("cpu"):
        y = layer(x)
    assert type(y.grad_fn).__name__ == "_SwitchBackward"
    expected = wide(x.double())
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6)
    dy = torch.randn_like(x)
    y.backward(dy)
    expected.backward(dy.double())
    for ours, theirs in zip(layer.parameters(), wide.parameters(), strict=True):
        assert ours.grad is not None
        assert ours.grad.dtype == ours.dtype
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5)
