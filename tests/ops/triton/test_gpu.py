"""The kernels on a GPU: the interpreter's cases at real sizes, and what only a device can show (`make test-gpu`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.ops import kernel, normalize, standardize_weight
from switchnorm.ops.kernels.triton.weight import standardize, standardize_backward
from tests.ops.triton.cases import SN, Case, cases, check
from tests.ops.triton.launches import launches
from tests.ops.triton.limits import CUTS, cut

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter runs on the CPU"),
]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)

#: Shapes as networks have them: one in pieces of maps, one of short maps, one program, one that vectors of 16 bytes do
#: not divide.
SHAPES = ((2, 256, 200, 336), (32, 2048, 7, 7), (32, 64, 56, 56), (2, 64, 8, 8), (5, 36, 33, 31))


@pytest.fixture(autouse=True)
def _memory_for_others() -> Iterator[None]:
    """Workers share the device: none keeps what it has for later."""
    yield
    torch.cuda.empty_cache()


def on_device(case: Case) -> Case:
    """The case on the GPU, laid out as it was."""

    def move(t: Tensor) -> Tensor:
        if t.is_contiguous():
            return t.cuda()
        return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda").copy_(t)

    return case.to(move)


# In parts, which several workers share: compiling takes most of the time.
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("limits", CUTS[:2], ids=str)
@settings(max_examples=25, phases=(Phase.explicit, Phase.generate))
@given(data=st.data())
def test_drawn_cases(dtype: torch.dtype, limits: dict[str, int], data: st.DataObject) -> None:
    case = data.draw(cases(elements=20_000, dtypes=(dtype,)))
    with cut(limits):
        check(on_device(case))


def whole_case(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, **options: Any) -> Case:
    """A case with every parameter, made on the GPU."""

    def maps(offset: float = 0.0) -> Tensor:
        t = torch.randn(shape, device="cuda") + offset
        return t.to(dtype).contiguous(memory_format=memory_format)

    statistics = options.pop("statistics", SN)
    tables = [torch.randn(count, device="cuda") for count in (len(statistics),) * 2 + (shape[1],) * 2]
    defaults = {"relu": False, "eps": 1e-5, "ghost": None, "unbiased": True, "residual": None, "running": None}
    if options.pop("add", False):
        defaults["residual"] = maps()
    return Case(maps(3.0), maps(), statistics, *tables, **{**defaults, **options})


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"relu": True},
        {"relu": True, "add": True},
        {"ghost": 1, "statistics": ("batch", "layer")},
        {"statistics": ("group:4",)},
        {"statistics": ("instance",)},
        {"statistics": ("batch",), "unbiased": False},
    ],
    ids=str,
)
def test_shapes_of_networks(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, options: dict[str, Any]
) -> None:
    with launches() as names:
        check(whole_case(shape, dtype, memory_format, **options))
    assert len(names) <= 4
    assert "affine_kernel" not in names


def step(case: Case) -> list[Tensor]:
    """Forward and backward of a layer, as a training loop calls it."""
    leaves = [
        t for t in (case.x, case.mean_logits, case.var_logits, case.weight, case.bias, case.residual) if t is not None
    ]
    with kernel("triton"):
        y, batch_mean, batch_var = normalize(
            case.x,
            case.statistics,
            case.mean_logits,
            case.var_logits,
            case.weight,
            case.bias,
            residual=case.residual,
            activation="relu" if case.relu else None,
        )
        gradients = torch.autograd.grad(y, leaves, case.dy)
    return [t.detach() for t in (y, batch_mean, batch_var, *gradients) if t is not None]


def require_gradients(case: Case) -> Case:
    case = case._replace(mean_logits=case.mean_logits.softmax(0), var_logits=case.var_logits.softmax(0))
    for t in case.leaves().values():
        t.requires_grad_()
    return case


@FORMATS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits_twice(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    case = require_gradients(whole_case(shape, torch.bfloat16, memory_format, relu=True))
    for once, again in zip(step(case), step(case), strict=True):
        assert torch.equal(once, again)


@pytest.fixture
def no_waiting() -> Any:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@FORMATS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("no_waiting")
def test_the_host_does_not_wait(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    case = require_gradients(whole_case(shape, torch.bfloat16, memory_format, relu=True, add=True))
    step(case)


@FORMATS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_a_graph(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    """A captured step gives the same bits, replayed again and again and on other numbers."""
    case = require_gradients(whole_case(shape, torch.bfloat16, memory_format, relu=True))
    captured = capture(lambda: step(case))
    for _ in range(3):
        with torch.no_grad():
            case.x.copy_(torch.randn_like(case.x))
        results = [t.clone() for t in captured()]
        for replayed, eager in zip(results, step(case), strict=True):
            assert torch.equal(replayed, eager)


def capture(run: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()

    def replay() -> list[Tensor]:
        graph.replay()
        return results

    return replay


def test_two_streams_at_once() -> None:
    """Each stream counts arrivals of its own."""
    case = require_gradients(whole_case((8, 256, 56, 56), torch.bfloat16, torch.channels_last))
    expected = step(case)
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    found: list[list[list[Tensor]]] = [[], []]
    for _ in range(20):
        for stream, into in zip(streams, found, strict=True):
            with torch.cuda.stream(stream):
                into.append(step(case))
    torch.cuda.synchronize()
    for results in (*found[0], *found[1]):
        for ours, theirs in zip(results, expected, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d], ids=str)
def test_more_elements_than_32_bits_count(memory_format: torch.memory_format) -> None:
    """Constant maps: every y is the bias, wherever it lies."""
    shape = (3, 3, 512, 512, 1024)
    if torch.cuda.mem_get_info()[0] < 14 * 2**30:
        pytest.skip("not enough memory")
    values = torch.randn(3, 3, 1, 1, 1, device="cuda").half()
    x = torch.empty(shape, dtype=torch.half, device="cuda", memory_format=memory_format).copy_(values.expand(shape))
    bias = torch.tensor([-1.0, 0.5, 2.0], device="cuda")
    with kernel("triton"), torch.no_grad():
        y = normalize(x, ("instance",), bias=bias).y
    assert all(bool((y[:, c] == bias[c]).all()) for c in range(3))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weight_standardization(dtype: torch.dtype) -> None:
    weight = torch.randn(512, 256, 3, 3, device="cuda").to(dtype)
    dy = torch.randn_like(weight)
    out, mean, std = standardize(weight.flatten(1), 1e-5)
    found = standardize_backward(dy.flatten(1), weight.flatten(1), mean, std, 1e-5)
    wide = weight.double().requires_grad_()
    with kernel("reference"):
        expected = standardize_weight(wide)
    (gradient,) = torch.autograd.grad(expected, wide, dy.double())
    # A few roundings in the dtype of accumulation, then one to dtype.
    for ours, theirs in ((out, expected), (found, gradient)):
        tolerance = torch.finfo(dtype).eps + 16 * torch.finfo(std.dtype).eps
        torch.testing.assert_close(ours.double(), theirs.detach().flatten(1), rtol=tolerance, atol=5 * tolerance)
