"""What a layer costs the host: at most twice as much as torch's Batch Norm, where launches cost nothing."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from switchnorm.layers.norms.sparse import SparseSwitchNorm2d
from switchnorm.layers.norms.switch import SwitchNorm2d
from switchnorm.ops import kernel
from switchnorm.ops.kernels.triton import kernel as triton_kernel
from tests.ops.triton.driver import pretended
from tests.ops.triton.launches import launches
from tests.ops.triton.limits import cut

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter launches nothing")

#: The narrowest layer of a ResNet, on maps so small that Batch Norm, whose kernels do run, computes next to nothing.
SHAPE = (2, 64, 4, 4)


def stepping(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """A step forward and backward, as any loop takes it."""
    x = x.clone().requires_grad_()
    dy = torch.randn_like(x)
    leaves = [x, *layer.parameters()]

    def step() -> None:
        layer(x).backward(dy)
        for leaf in leaves:
            leaf.grad = None

    return step


def seconds(step: Callable[[], None], steps: int = 300) -> float:
    """The median of some steps, each by itself, so that what else runs on the machine falls out."""
    taken = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


@pytest.mark.parametrize("make", [SwitchNorm2d, SparseSwitchNorm2d])
def test_a_step_takes_the_host_at_most_twice_as_long_as_batch_norm(make: Callable[[int], nn.Module]) -> None:
    # Two launches in each direction, as most layers of networks take them.
    takes_the_cpu = mock.patch.object(triton_kernel, "INTERPRETING", True)
    with takes_the_cpu, kernel("triton"), pretended(writing=False), cut({"RESIDENT": 0}):
        x = torch.randn(SHAPE)
        plain, ours = stepping(nn.BatchNorm2d(SHAPE[1]), x), stepping(make(SHAPE[1]), x)
        with launches() as names:
            ours()
        assert len(names) == 4
        for step in (plain, ours):
            seconds(step, 20)
        # In turns, and a noisy machine gets several: what is true once of both in a row is no accident.
        ratios = []
        for _ in range(12):
            ratios.append(seconds(ours) / seconds(plain))
            if ratios[-1] <= 2:
                return
        pytest.fail(f"a step takes {min(ratios):.2f} to {max(ratios):.2f} times as long as one of Batch Norm")
