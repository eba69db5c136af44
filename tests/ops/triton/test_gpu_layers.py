"""Layers on a GPU, in the ways that people train them (`make test-gpu`)."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.layers.norms.sparse import SparseSwitchNorm2d
from switchnorm.layers.norms.switch import SwitchNorm2d, SwitchNorm3d
from switchnorm.ops import kernel
from switchnorm.ops.kernels.triton import fused, probe
from tests.ops.triton.launches import launches
from tests.ops.triton.test_gpu import FORMATS, capture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter runs on the CPU"),
]
TWO = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")

#: One whose programs hold all that depends on each other, and one in two launches a direction.
SHAPES = pytest.mark.parametrize("shape", [(2, 64, 8, 8), (8, 64, 56, 56)], ids=str)
MAKES = pytest.mark.parametrize("make", [SwitchNorm2d, SparseSwitchNorm2d])


def made(make: Callable[..., Any], device: str = "cuda", **options: Any) -> Any:
    layer = make(64, device=device, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()))
    if isinstance(layer, SparseSwitchNorm2d):
        layer.set_radius(0.4)
    return layer


def step(layer: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    """Output, gradients and buffers of a training step; buffers are those after it."""
    x = x.detach().requires_grad_()
    y = layer(x)
    gradients = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    return [y.detach(), *gradients, *(t.clone() for t in layer.buffers())]


def assert_same_bits(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.cpu(), theirs.cpu())


def test_this_device_is_taken() -> None:
    assert probe.failure(torch.cuda.current_device()) is None


@FORMATS
@MAKES
@SHAPES
def test_a_step_is_that_of_the_reference(
    shape: tuple[int, ...], make: Callable[..., Any], memory_format: torch.memory_format
) -> None:
    layer = made(make)
    x, dy = (torch.randn(shape, device="cuda").contiguous(memory_format=memory_format) for _ in range(2))
    wide = copy.deepcopy(layer).double()
    found = step(layer, x, dy)
    with kernel("reference"):
        expected = step(wide, x.double(), dy.double())
    for ours, theirs in zip(found, expected, strict=True):
        scale = float(theirs.abs().max()) + 1
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=3e-5 * scale)


@SHAPES
@MAKES
def test_a_prepared_launch_is_tritons_own(shape: tuple[int, ...], make: Callable[..., Any]) -> None:
    x, dy = torch.randn(shape, device="cuda"), torch.randn(shape, device="cuda")
    fused._forwards.clear()
    layer = made(make)
    first, *others = [step(copy.deepcopy(layer), x, dy) for _ in range(3)]
    assert all(each.launches._ready for each in fused._forwards.values())
    for again in others:
        assert_same_bits(again, first)
    # An address that is no multiple of 16 bytes goes Triton's way, to another kernel.
    shifted = torch.empty(x.numel() + 1, device="cuda")[1:].view(shape).copy_(x)
    for ours, theirs in zip(step(copy.deepcopy(layer), shifted, dy), first, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_autocast(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        made(SwitchNorm2d, activation="relu"),
        nn.Conv2d(64, 64, 3),
        made(SparseSwitchNorm2d),
    ).to("cuda", memory_format=memory_format)  # type: ignore[call-overload]
    x = torch.randn(4, 3, 32, 32, device="cuda").contiguous(memory_format=memory_format)
    wide = copy.deepcopy(net).double()
    with torch.autocast("cuda", dtype), launches() as names:
        y = net(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=memory_format)
    assert names
    y.float().square().mean().backward()
    with kernel("reference"):
        expected = wide(x.double())
    expected.square().mean().backward()
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance * float(expected.abs().max()))
    for ours, theirs in zip(net.parameters(), wide.parameters(), strict=True):
        assert ours.grad is not None
        assert ours.grad.dtype == torch.float32
        difference = (ours.grad.double() - theirs.grad).norm()
        assert float(difference) <= 4 * tolerance * (float(theirs.grad.norm()) + 1e-3)  # type: ignore[union-attr]


def test_volumes_with_channels_last() -> None:
    layer = made(SwitchNorm3d)
    x, dy = (torch.randn(2, 64, 9, 10, 11, device="cuda") for _ in range(2))
    expected = step(copy.deepcopy(layer), x, dy)
    last = [t.contiguous(memory_format=torch.channels_last_3d) for t in (x, dy)]
    with launches() as names:
        found = step(layer, *last)
    assert names
    assert found[0].is_contiguous(memory_format=torch.channels_last_3d)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * (float(theirs.abs().max()) + 1))


@SHAPES
@MAKES
def test_the_host_does_not_wait(shape: tuple[int, ...], make: Callable[..., Any]) -> None:
    layer = made(make)
    x, dy = torch.randn(shape, device="cuda"), torch.randn(shape, device="cuda")
    step(layer, x, dy)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(layer, x, dy)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@SHAPES
@MAKES
def test_streams_have_counters_of_their_own(shape: tuple[int, ...], make: Callable[..., Any]) -> None:
    layers = [made(make) for _ in range(3)]
    x, dy = torch.randn(shape, device="cuda"), torch.randn(shape, device="cuda")
    expected = [step(layers[2], x, dy) for _ in range(10)]
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    found: list[list[list[Tensor]]] = [[], []]
    for _ in range(10):
        for layer, stream, into in zip(layers, streams, found, strict=False):
            with torch.cuda.stream(stream):
                into.append(step(layer, x, dy))
    torch.cuda.synchronize()
    for each in found:
        for ours, theirs in zip(each, expected, strict=True):
            assert_same_bits(ours, theirs)


@SHAPES
def test_a_captured_step_follows_the_radius(shape: tuple[int, ...]) -> None:
    """What changes between replays is read by them: radius, final choices, logits."""
    layer, eager = made(SparseSwitchNorm2d), made(SparseSwitchNorm2d)
    x, dy = torch.randn(shape, device="cuda"), torch.randn(shape, device="cuda")
    state = copy.deepcopy(layer.state_dict())
    replay = capture(lambda: step(layer, x, dy))
    layer.load_state_dict(state)
    for radius in (0.0, 0.3, 0.8, 1.0):
        for each in (layer, eager):
            each.set_radius(radius)
            with torch.no_grad():
                each.mean_weight.add_(0.01)
        assert_same_bits(list(replay()), step(eager, x, dy))
    for each in (layer, eager):
        each.harden()
    found, expected = list(replay()), step(eager, x, dy)
    assert_same_bits(found, expected)
    names = [name for name, _ in layer.named_parameters()]
    if bool(layer.mean_fixed):
        assert not found[2 + names.index("mean_weight")].any()


def test_a_layer_that_chose_the_batch_statistic_is_seen_once_and_not_while_a_graph_is_captured() -> None:
    layer = made(SparseSwitchNorm2d).eval()
    layer.set_importance((0.1, 0.3, 0.6), (0.1, 0.3, 0.6))
    layer.set_radius(1)
    x = torch.randn(4, 64, 112, 112, device="cuda")
    with torch.inference_mode():
        expected = layer(x)
        with launches() as names:
            torch.testing.assert_close(layer(x), expected)
        assert names == ["normalize_kernel"]
        layer.set_radius(0.2)
        with launches() as names:
            assert not torch.allclose(layer(x), expected)
        assert names == ["moments_kernel", "normalize_kernel"]
        layer.set_radius(1)
        layer(x)
        replay = capture(lambda: [layer(x)])
    layer.set_radius(0.2)
    (found,) = replay()
    with torch.no_grad():
        torch.testing.assert_close(found, layer(x))


@TWO
@SHAPES
@MAKES
def test_two_devices(shape: tuple[int, ...], make: Callable[..., Any]) -> None:
    """Whichever is the current one."""
    torch.manual_seed(0)
    x, dy = torch.randn(shape), torch.randn(shape)
    expected = step(made(make, "cuda:0"), x.to("cuda:0"), dy.to("cuda:0"))
    for current in (0, 1):
        with torch.cuda.device(current):
            layer, other = made(make, "cuda:1"), made(make, "cuda:0")
            for _ in range(2):
                ours = step(copy.deepcopy(layer), x.to("cuda:1"), dy.to("cuda:1"))
                assert_same_bits(step(copy.deepcopy(other), x.to("cuda:0"), dy.to("cuda:0")), expected)
                assert_same_bits(ours, expected)
            assert torch.cuda.current_device() == current


@TWO
@SHAPES
def test_capturing_while_another_device_is_current(shape: tuple[int, ...]) -> None:
    layer = made(SwitchNorm2d, "cuda:1")
    x, dy = torch.randn(shape, device="cuda:1"), torch.randn(shape, device="cuda:1")
    state = copy.deepcopy(layer.state_dict())
    stream = torch.cuda.Stream("cuda:1")
    with torch.cuda.stream(stream):
        step(layer, x, dy)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream), torch.cuda.device(0):
        found = step(layer, x, dy)
    layer.load_state_dict(state)
    eager = copy.deepcopy(layer)
    for _ in range(3):
        with torch.cuda.device(1):
            graph.replay()
        assert_same_bits(found, step(eager, x, dy))


@pytest.mark.parametrize("parameters", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("inputs", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@SHAPES
def test_dtypes(shape: tuple[int, ...], inputs: torch.dtype, parameters: torch.dtype) -> None:
    """Tables, gradients and running statistics of any dtype beside inputs of any other."""
    layer = made(SwitchNorm2d).to(parameters)
    x, dy = (torch.randn(shape, device="cuda").to(inputs) for _ in range(2))
    wide = copy.deepcopy(layer).double()
    with launches() as names:
        found = step(layer, x, dy)
    assert names
    with kernel("reference"):
        expected = step(wide, x.double(), dy.double())
    dtypes = [inputs, inputs, *(parameters for _ in layer.parameters()), parameters, parameters, torch.int64]
    for ours, theirs, dtype in zip(found, expected, dtypes, strict=True):
        assert ours.dtype == dtype
        eps = torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
        scale = float(theirs.abs().max()) + 1
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=(4 * eps + 3e-5) * scale)
