"""Where Triton is installed and cannot work, plain PyTorch does, and the reason is said once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import switchnorm
from switchnorm.ops import kernel
from switchnorm.ops.kernels import choice
from switchnorm.ops.kernels.triton import TritonKernel, probe
from tests.ops.triton.driver import pretended

Trials = Callable[[Exception | None], list[int]]


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    probe.failure.cache_clear()
    choice._warn.cache_clear()
    yield
    probe.failure.cache_clear()
    choice._warn.cache_clear()


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    """Lets every trial end with an error; gives the devices that are tried."""

    def ending(error: Exception | None) -> list[int]:
        tried: list[int] = []

        def attempt(device: int) -> None:
            tried.append(device)
            if error is not None:
                raise error

        monkeypatch.setattr(probe, "_try", attempt)
        return tried

    return ending


def on_cuda(device: int = 0) -> Any:
    """What a kernel asks an input before it takes it."""
    return SimpleNamespace(is_cuda=True, dtype=torch.float32, get_device=lambda: device)


def test_a_device_is_tried_once(trials: Trials) -> None:
    tried = trials(None)
    assert [TritonKernel().refusal(on_cuda(device)) for device in (0, 1, 0, 1, 1)] == [None] * 5
    assert tried == [0, 1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
            "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.",
        ),
        (
            FileNotFoundError("\nmain.c:4:10: fatal error: Python.h: No such file\ncompilation terminated."),
            "FileNotFoundError: main.c:4:10: fatal error: Python.h: No such file",
        ),
        (AssertionError(), "AssertionError"),
    ],
    ids=str,
)
def test_whatever_it_ends_with_is_the_reason(trials: Trials, error: Exception, said: str) -> None:
    tried = trials(error)
    assert [TritonKernel().refusal(on_cuda()) for _ in range(3)] == [f"a trial of Triton ended with {said}"] * 3
    assert tried == [0]


def test_models_work_without_it_and_say_so_once(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    trials(RuntimeError("the NVIDIA driver on your system is too old"))

    class Elsewhere(TritonKernel):
        """Takes an input on the CPU for one on a GPU."""

        def refusal(self, x: Tensor) -> str | None:
            return super().refusal(on_cuda())

    monkeypatch.setattr(choice, "_load", lambda name: Elsewhere())
    model = torch.nn.Sequential(
        switchnorm.SparseSwitchNorm2d(4), switchnorm.SwitchNorm2d(4), switchnorm.GroupNorm(2, 4)
    )
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with kernel("triton"):
            y = model(x)
            model(x).sum().backward()
    (message,) = {str(each.message) for each in told if each.category is switchnorm.ops.KernelFallback}
    assert "instead of the kernel 'triton': a trial of Triton ended with RuntimeError: the NVIDIA driver" in message
    assert len([each for each in told if each.category is switchnorm.ops.KernelFallback]) == 1
    with kernel("reference"):
        torch.testing.assert_close(model(x), y, rtol=0, atol=0)


def test_amd_is_refused_untried(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = trials(None)
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")
    assert "AMD" in (TritonKernel().refusal(on_cuda()) or "")
    assert tried == []


def test_an_import_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    choice._load.cache_clear()

    def broken(name: str, *_: Any) -> Any:
        if name == "switchnorm.ops.kernels.triton":
            raise OSError("libcuda.so.1: cannot open shared object file")
        return original(name, *_)

    original = __import__
    monkeypatch.setattr("builtins.__import__", broken)
    try:
        found = choice._load("triton")
    finally:
        monkeypatch.undo()
        choice._load.cache_clear()
    assert found == "importing Triton ended with OSError: libcuda.so.1: cannot open shared object file"


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter does not compile")
def test_the_trial_compiles_and_launches() -> None:
    with pretended() as driver:
        probe._probe_kernel[(1,)](torch.empty(1, dtype=torch.int32), enable_fp_fusion=True)
    assert [each.programs for each in driver.launched] == [(1, 1, 1)]
