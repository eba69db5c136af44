"""A plan changes nothing of a model or of the process, and no forward pass can kill it."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from switchnorm.surgery import fuse, plan_fuse, plan_switch, switch
from switchnorm.surgery.replica import Replica, Unavailable
from tests.surgery.awkward import FrozenDict, awkward, same, snapshot, steps

# A process for so many modules: where one kills it, the others are still planned on.
_BATCH = 60


@pytest.mark.parametrize("first", range(0, 120, _BATCH))
def test_plans_on_awkward_modules_change_nothing_and_kill_nothing(first):
    assert len(steps()) < 120
    command = [sys.executable, "-W", "ignore", "-m", "tests.surgery.awkward", str(first), str(first + _BATCH)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("changed")] == []
    assert lines[-1] == "done", f"{awkward(int(lines[-1]))} ended the process with {result.returncode}: {result.stderr}"


def test_what_a_snapshot_sees():
    model = awkward(0)
    part = next(m for m in model.modules() if hasattr(m, "deep"))
    for change in (
        lambda: part.deep["a"][0]["b"].append(1),
        lambda: part.counter.add_(1),
        lambda: setattr(part.slots, "count", 5),
        lambda: part.norm.eval(),
        lambda: part.cache.__setitem__("x", 1),
        lambda: part.array.fill(7),
    ):
        before = snapshot(model)
        change()
        assert not same(before, snapshot(model))
    part.cache.clear()


class DeepSupervision(nn.Module):
    """Heads of an earlier batch, resized to the output: as those of MONAI's DynUNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.heads = [torch.zeros(1, 4, 5, 5), torch.zeros(1, 4, 7, 7)]

    def forward(self, x):
        o = self.bn(self.conv(x)).relu()
        return [o, *(F.interpolate(h, o.shape[2:]) for h in self.heads)]


def test_sizes_of_values_never_reach_torch_as_tensors():
    net = switch(DeepSupervision(), "sn")
    fuse(net)
    assert [o.shape[2:] for o in net(torch.randn(2, 3, 9, 9))] == [(7, 7)] * 3


def test_a_configuration_that_refuses_to_be_filled_again_stays():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net.config = FrozenDict(a=1, b=[1, 2])
    before = copy.copy(dict(net.config))
    plan_switch(net, "sn+ws")
    plan_fuse(switch(net, "sn"))
    assert dict(net.config) == before


def test_a_replica_copies_no_weights_and_keeps_what_is_shared():
    net = torchvision.models.resnet18(weights=None)
    net.again = [net.layer1, net.layer1[0].conv1.weight]
    net.lock, net.generator = torch.Generator(), (i for i in range(3))
    twin = Replica(net).root
    assert type(twin) is type(net)
    assert all(tensor.is_meta for tensor in (*twin.parameters(), *twin.buffers()))
    assert twin.again[0] is twin.layer1
    assert twin.again[1] is twin.layer1[0].conv1.weight
    assert twin.again[0] is not net.layer1
    assert isinstance(twin.generator, Unavailable)
    with pytest.raises(TypeError, match="a generator cannot be copied"):
        twin.generator.send(None)
    with pytest.raises(TypeError):
        next(twin.generator)


def test_contexts_in_a_forward_pass_are_not_lost_by_fusing():
    class Net(nn.Module):
        def __init__(self, context) -> None:
            super().__init__()
            self.norm, self.relu, self.context = nn.BatchNorm2d(4), nn.ReLU(), context

        def forward(self, x):
            with self.context():
                return self.relu(self.norm(x))

    for context in (torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)):
        net = switch(Net(context), "bn")
        plan = plan_fuse(net)
        assert plan.changes == []
        assert "changes what is differentiated, or autocast" in plan.left[0].reason


def test_gradients_of_custom_functions_are_not_lost_by_fusing():
    class Tripled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad * 3

    triple = Tripled.apply

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x):
            return triple(self.relu(self.norm(x)))

    net = switch(Net(), "bn")
    plain = copy.deepcopy(net)
    fuse(net)
    for one in (net, plain):
        one(torch.ones(2, 4, 3, 3).cumsum(0)).square().sum().backward()
    torch.testing.assert_close(net.norm.bias.grad, plain.norm.bias.grad)
