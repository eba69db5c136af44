"""A prepared launch hands the launcher what Triton would, whenever it may take Triton's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from switchnorm.ops.kernels.triton.launch import Launch, counters
from tests.ops.triton.driver import Driver, Launched, pretended

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter launches nothing")


@triton.jit
def scale_kernel(x_ptr, y_ptr, bias_ptr, size, one, share, BLOCK: tl.constexpr, ADD: tl.constexpr, ACC: tl.constexpr):
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


def prepared(dtype: torch.dtype = torch.float32) -> Launch:
    # 1 and multiples of 16 are numbers that Triton compiles kernels of their own for.
    return Launch(scale_kernel, 5, dtype, (48, 1, 0.25), warps=2, registers=64, BLOCK=64, ADD=3)


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
    assert first.arguments == (*addresses, 48, 1, 0.25, 64, 3, accumulates)
    # Other tensors, other addresses.
    others = tensors(dtype)
    launch(*others[:2], others[2] if bias else None)
    assert last(pretending).arguments[:2] == (others[0].data_ptr(), others[1].data_ptr())
    assert len(ordinary) == 1


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
