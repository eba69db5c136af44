"""Where PyTorch's own kernels are taken: only where they are exact, and only where nobody chose another path."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.layers import BatchNorm2d, GroupNorm, Spec, WSConv2d, norm_names
from switchnorm.ops import KernelFallback, kernel
from switchnorm.ops.kernels import choice
from switchnorm.ops.torchs import COPIED, LONG_SUM, batch_norm_is_exact, group_norm_is_fast

SHAPES = [
    (4, 8, 37),
    (3, 8, 15, 17),
    (4, 8, 33, 31),
    (4, 8, 64, 63),
    (16, 8, 96, 96),
    (2, 8, 5, 7, 9),
    (2, 8, 15, 16, 17),
]
PLAIN = ("gn", "ln", "in", "bn")


def last(t: Tensor) -> Tensor:
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


def step(layer: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    y.backward(dy)
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    load = choice._load
    monkeypatch.setattr(choice, "_load", lambda name: "there is none" if name == "cpu" else load(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KernelFallback)
        yield
    choice._warn.cache_clear()


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_without_the_library_too(name: str, channels_last: bool) -> None:
    """Many terms, which torch's Batch Norm sums up in float32, and few, at which it is taken."""
    for shape in ((16, 8, 96, 96), (4, 8, 16, 17), (3, 8, 15, 17)):
        for offset, bound in ((1000, 1e-3), (-100, 1e-3), (10, 1e-4)):
            x, dy = torch.randn(shape) + offset, torch.randn(shape)
            if channels_last:
                x, dy = last(x), last(dy)
            layer = Spec.parse(name).layer(8)
            exact = step(copy.deepcopy(layer).double(), x.double(), dy.double())
            for ours, theirs in zip(step(layer, x, dy), exact, strict=True):
                assert (ours - theirs).abs().max() < bound * theirs.abs().max()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", norm_names())
def test_a_mean_of_a_thousand_deviations_costs_three_digits(
    name: str, shape: tuple[int, ...], channels_last: bool
) -> None:
    x, dy = torch.randn(shape) + 1000, torch.randn(shape)
    if channels_last:
        x, dy = last(x), last(dy)
    layer: Any = Spec.parse(name).layer(8, len(shape) - 2)
    if name == "bcn":  # It normalizes by its estimates, which have to have arrived there.
        layer.momentum = 0.0
        layer.running_mean.fill_(1000)
    exact = step(copy.deepcopy(layer).double(), x.double(), dy.double())
    for ours, theirs in zip(step(layer, x, dy)[:2], exact, strict=False):
        assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PLAIN)
def test_half_precision_loses_what_its_dtype_loses(name: str, dtype: torch.dtype) -> None:
    x, dy = last(torch.randn(3, 8, 64, 63) + 30).to(dtype), last(torch.randn(3, 8, 64, 63)).to(dtype)
    layer = Spec.parse(name).layer(8)
    exact = step(copy.deepcopy(layer).double(), x.double(), dy.double())
    rounding = torch.finfo(dtype).eps
    for ours, theirs in zip(step(layer, x, dy), exact, strict=True):
        assert (ours - theirs).abs().max() < rounding * theirs.abs().max()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("offset", [10, 1000])
def test_standardized_weights_far_from_zero(offset: float, channels_last: bool) -> None:
    conv = WSConv2d(16, 8, 3)
    conv.weight.data += offset
    x, dy = torch.randn(2, 16, 6, 5), torch.randn(2, 8, 4, 3)
    if channels_last:
        conv, x, dy = conv.to(memory_format=torch.channels_last), last(x), last(dy)
    exact = step(copy.deepcopy(conv).double(), x.double(), dy.double())
    for ours, theirs in zip(step(conv, x, dy), exact, strict=True):
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_which_inputs_pytorchs_kernels_are_good_for() -> None:
    small, large = torch.randn(2, 4, 5, 7), torch.randn(4, 4, 64, 65)
    assert small.numel() < COPIED <= large.numel()
    assert large.numel() // 4 > LONG_SUM
    for x in (small, last(small), large, last(large).bfloat16()):
        assert group_norm_is_fast(x)
        assert batch_norm_is_exact(x + 1000)
    assert not group_norm_is_fast(last(large))
    assert batch_norm_is_exact(last(large))
    one_channel = last(large)
    one_channel[:, 2] += 1000
    assert not batch_norm_is_exact(one_channel)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(BatchNorm2d(4, ghost=None), nn.BatchNorm2d(4)), (GroupNorm(2, 4), nn.GroupNorm(2, 4))],
    ids=["bn", "gn"],
)
def test_small_inputs_look_up_no_tensors_that_pytorchs_layer_does_not(
    ours: nn.Module, theirs: nn.Module, training: bool
) -> None:
    def lookups(layer: nn.Module) -> int:
        found = []
        sys.setprofile(lambda frame, event, _: found.append(event) if frame.f_code is looked_up else None)
        try:
            layer(x)
        finally:
            sys.setprofile(None)
        return found.count("call")

    x, looked_up = torch.randn(2, 4, 3, 3), nn.Module.__getattr__.__code__
    assert 0 < lookups(theirs.train(training)) == lookups(ours.train(training))


def node(layer: nn.Module, x: Tensor) -> set[str]:
    """The names of the nodes of the graph of an output."""
    y = layer(x)  # whose graph the nodes of functions in Python do not keep alive
    found, todo = set(), [y.grad_fn]
    while todo:
        each = todo.pop()
        if each is not None:
            found.add(type(each).__name__)
            todo += [next_ for next_, _ in each.next_functions]
    return found


@pytest.mark.usefixtures("fast_path")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_the_choice_of_a_kernel_holds_for_them_too(name: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Spec.parse(name).layer(6).train(training)
    x = torch.randn(3, 6, 4, 5)
    own = {"NativeBatchNormBackward0", "NativeGroupNormBackward0"}
    y = copy.deepcopy(layer)(x)
    states = []
    for forced, taken in ((None, own), ("torch", own), ("cpu", {"_NormalizeBackward"}), ("reference", set())):
        other = copy.deepcopy(layer)
        if forced is not None:
            monkeypatch.setattr(choice, "_from_environment", lambda name=forced: name)
        names = node(other, x)
        assert bool(names & own) == (taken is own)
        assert ("_NormalizeBackward" in names) == (forced == "cpu")
        torch.testing.assert_close(copy.deepcopy(layer)(x), y)
        states.append(other.state_dict())
    for state in states[1:]:
        torch.testing.assert_close(state, states[0])


def test_mixtures_have_no_kernel_of_pytorchs() -> None:
    choice._warn.cache_clear()
    with kernel("torch"), pytest.warns(KernelFallback, match="reference instead of the kernel 'torch'"):
        Spec.parse("sn").layer(4)(torch.randn(2, 4, 3, 3))
    choice._warn.cache_clear()
