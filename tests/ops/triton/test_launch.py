"""A prepared launch hands the launcher what Triton would, whenever it may take Triton's place."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from switchnorm.layers.norms.switch import SwitchNorm2d
from switchnorm.ops import kernel
from switchnorm.ops.kernels.triton import fused
from switchnorm.ops.kernels.triton import kernel as triton_kernel
from switchnorm.ops.kernels.triton.launch import Launch, Launches, counters
from switchnorm.ops.kernels.triton.resident import resident_normalize_kernel
from tests.ops.triton.driver import Driver, Launched, pretended

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter launches nothing")


@triton.jit
def scale_kernel(x_ptr, y_ptr, bias_ptr, share, size, one, BLOCK: tl.constexpr, ADD: tl.constexpr, ACC: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < size * one, other=0).to(ACC) * share
    if bias_ptr is not None:
        x += tl.load(bias_ptr).to(ACC) + ADD
    tl.store(y_ptr + at, x, mask=at < size * one)


@pytest.fixture
def pretending() -> Iterator[Driver]:
    with pretended() as driver:
        yield driver
        scale_kernel.device_caches.clear()


def prepared(dtype: torch.dtype = torch.float32) -> Launches:
    # 1 and multiples of 16 are numbers that Triton compiles kernels of their own for.
    return Launches(Launch(scale_kernel, 5, dtype, (0.25, 48, 1), warps=2, registers=64, BLOCK=64, ADD=3))


def tensors(dtype: torch.dtype = torch.float32, offset: int = 0) -> tuple[Tensor, ...]:
    """Three tensors, the first so many elements past a multiple of 16 bytes."""
    return torch.zeros(64 + offset, dtype=dtype)[offset:], torch.zeros(64, dtype=dtype), torch.zeros(1)


def triton_calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call that goes Triton's own way from now on."""
    calls: list[Any] = []
    run = scale_kernel.run

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(given)
        return run(*given, **options)

    monkeypatch.setattr(scale_kernel, "run", counted)
    return calls


def last(driver: Driver) -> Launched:
    return driver.launched[-1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_it_equals_tritons_own(
    pretending: Driver, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, bias: bool
) -> None:
    launch, ordinary = prepared(dtype), triton_calls(monkeypatch)
    x, y, b = tensors(dtype)
    given = (x, y, b if bias else None)
    launch(*given)
    first = last(pretending)
    launch(*given)
    again = last(pretending)
    assert len(ordinary) == 1
    assert first == again
    assert first.programs == (5, 1, 1)
    assert first.stream == 7
    accumulates = tl.float64 if dtype == torch.float64 else tl.float32
    addresses = x.data_ptr(), y.data_ptr(), b.data_ptr() if bias else None
    assert first.arguments == (*addresses, 0.25, 48, 1, 64, 3, accumulates)
    # Other tensors, other addresses.
    others = tensors(dtype)
    launch(*others[:2], others[2] if bias else None)
    assert last(pretending).arguments[:2] == (others[0].data_ptr(), others[1].data_ptr())
    assert len(ordinary) == 1


def test_several_take_what_they_name_of_what_all_are_given(pretending: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = triton_calls(monkeypatch)
    options: dict[str, Any] = {"warps": 2, "BLOCK": 64, "ADD": 3}
    steps = [Launch(scale_kernel, programs, torch.float32, (48, 1), **options) for programs in (5, 6)]
    steps[1].takes[steps[1].takes.index("x_ptr")] = "z_ptr"
    launches = Launches(*steps, names=("z_ptr", "bias_ptr", "y_ptr", "x_ptr", "share"))
    given = z, b, y, x = torch.zeros(64), torch.zeros(1), torch.zeros(64), torch.zeros(64)
    # The last number may be another every time, for which nothing is compiled anew.
    for share in (0.25, 0.5, 0.125):
        launches(*given, numbers=(share,))
        first, second = pretending.launched[-2:]
        assert (first.programs[0], second.programs[0]) == (5, 6)
        assert first.arguments[:6] == (x.data_ptr(), y.data_ptr(), b.data_ptr(), share, 48, 1)
        assert second.arguments == (z.data_ptr(), *first.arguments[1:])
    assert len(ordinary) == 2


def test_a_momentum_that_changes_prepares_nothing_anew(pretending: Driver) -> None:
    layer, x = SwitchNorm2d(8), torch.randn(2, 8, 4, 4)
    fused._forwards.clear()
    place = resident_normalize_kernel.arg_names.index("share")
    with mock.patch.object(triton_kernel, "INTERPRETING", True), kernel("triton"):
        for momentum in (0.1, 0.5, 1 / 3):
            layer.momentum = momentum
            layer(x)
            share, rest = last(pretending).arguments[place : place + 2]
            # Two numbers of 32 bits hold as much of it as the statistics do.
            assert share == ctypes.c_float(share).value
            assert share + rest == momentum
    assert len(fused._forwards) == 1


def test_an_address_that_is_no_multiple_of_16_goes_tritons_way(
    pretending: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, ordinary = prepared(), triton_calls(monkeypatch)
    aligned, shifted = tensors(), tensors(offset=1)
    for given, expected in ((shifted, 1), (aligned, 2), (aligned, 2), (shifted, 3), (aligned, 3)):
        launch(*given)
        assert len(ordinary) == expected
        assert last(pretending).arguments[0] == given[0].data_ptr()
    (cache, *_) = next(iter(scale_kernel.device_caches.values()))
    assert len(cache) == 2


def test_whoever_hooks_launches_sees_them(pretending: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    launch, ordinary = prepared(), triton_calls(monkeypatch)
    given = tensors()
    launch(*given)
    knobs = triton.knobs.runtime

    def hook(metadata: Any) -> None:
        """Does nothing; the driver says whether it came by."""

    if knobs.launch_enter_hook is None:  # Triton 3.4
        monkeypatch.setattr(knobs, "launch_enter_hook", hook)
    else:
        knobs.launch_enter_hook.add(hook)
    try:
        launch(*given)
        assert last(pretending).hooked
        assert len(ordinary) == 2
    finally:
        if hasattr(knobs.launch_enter_hook, "remove"):
            knobs.launch_enter_hook.remove(hook)
        else:
            monkeypatch.undo()
    before = len(ordinary)
    launch(*given)
    assert not last(pretending).hooked
    assert len(ordinary) in (before, 0)


def test_counters_belong_to_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    from switchnorm.ops.kernels.triton import launch as module

    monkeypatch.setattr(module, "_counters", {})
    stream = 1
    monkeypatch.setattr(module, "current_stream", lambda device: stream)
    x = torch.zeros(3)
    first = counters(x, 5)
    assert first.dtype == torch.int32
    assert len(first) >= 5
    assert not first.any()
    assert counters(x, len(first)) is first
    assert len(counters(x, len(first) + 1)) > len(first)
    larger = counters(x, 5)
    stream = 2
    assert counters(x, 5) is not larger
    stream = 1
    assert counters(x, 5) is larger
