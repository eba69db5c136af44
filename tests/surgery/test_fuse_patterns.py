"""Fusing normalization, addition and ReLU: which forward passes are fused, which are left and why."""

from __future__ import annotations

import copy
import operator
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from switchnorm import layers
from switchnorm.surgery import fuse, plan_fuse, switch
from tests.surgery.fusing import Net, assert_same, inputs, randomized
from tests.surgery.nets import DataDependent

FUSED = {
    "module": (lambda n, x, z: n.relu(n.norm(x)), [False]),
    "module in place": (lambda n, x, z: n.relu_in_place(n.norm(x)), [False]),
    "F": (lambda n, x, z: F.relu(n.norm(x)), [False]),
    "F in place": (lambda n, x, z: F.relu(n.norm(x), inplace=True), [False]),
    "F positional": (lambda n, x, z: F.relu(n.norm(x), True), [False]),
    "torch": (lambda n, x, z: torch.relu(n.norm(x)), [False]),
    "method": (lambda n, x, z: n.norm(x).relu(), [False]),
    "method in place": (lambda n, x, z: n.norm(x).relu_(), [False]),
    "left": (lambda n, x, z: n.relu(n.norm(x) + z), [True]),
    "right": (lambda n, x, z: n.relu(z + n.norm(x)), [True]),
    "own input": (lambda n, x, z: n.relu(n.norm(x) + x), [True]),
    "iadd": (lambda n, x, z: n.relu(operator.iadd(n.norm(x), z)), [True]),
    "torch.add": (lambda n, x, z: n.relu(torch.add(z, n.norm(x))), [True]),
    "add method": (lambda n, x, z: n.norm(x).add(z).relu(), [True]),
    "added to": (lambda n, x, z: z.add(n.norm(x)).relu(), [True]),
    "add_": (lambda n, x, z: n.relu_in_place(n.norm(x).add_(z)), [True]),
    "two norms": (lambda n, x, z: n.relu(n.norm(x) + n.other(z)), [True]),
    "identities": (lambda n, x, z: n.relu(n.identity(n.identity(n.norm(x)) + n.identity(z))), [True]),
    "one after another": (lambda n, x, z: n.relu(n.other(n.relu(n.norm(x)) * z) + x), [False, True]),
    "the same norm twice": (lambda n, x, z: n.relu(n.norm(x)) * n.relu(n.norm(z) + x), [False, True]),
    "one of two calls": (lambda n, x, z: n.relu(n.norm(x)) * n.norm(z), [False]),
    "writes into an input": (lambda n, x, z: n.relu(n.norm(operator.imul(z, 2))) * z, [False]),
    "counts": (lambda n, x, z: n.relu(n.norm(x)) * operator.iadd(c := x.shape[0], 2) * c, [False]),
    "used later": (lambda n, x, z: n.relu(n.norm(x) + z) * x + z, [True]),
    "broadcast": (lambda n, x, z: n.relu(n.norm(x) + n.scale), []),
    "broadcast to more": (lambda n, x, z: n.relu(n.norm(x) + z[None]), []),
    "scalar": (lambda n, x, z: n.relu(n.norm(x) + 1.5), []),
    "narrower": (lambda n, x, z: n.relu(n.norm(x) + z.float()), []),
}


@pytest.mark.parametrize("norm", [layers.BatchNorm2d, layers.SwitchNorm2d, lambda c: layers.GroupNorm(2, c)])
@pytest.mark.parametrize("name", FUSED)
def test_fused(name, norm, fused_calls):
    body, calls = FUSED[name]
    net = randomized(Net(body, norm))
    plan = plan_fuse(copy.deepcopy(net))
    assert "norm" in {change.names[0] for change in plan.changes}
    fused = plan.apply()
    assert_same(fused, net, inputs())
    assert fused_calls == calls * 2


LEFT = {
    "norm used twice": (lambda n, x, z: n.relu(y := n.norm(x)) + y, "norm is used 2 times"),
    "sum used twice": (lambda n, x, z: n.relu(y := n.norm(x) + z) + y, "add is used 2 times"),
    "sum with itself": (lambda n, x, z: n.relu((y := n.norm(x)) + y), "no ReLU follows"),
    "other activation": (lambda n, x, z: n.relu6(n.norm(x)), "no ReLU follows"),
    "difference": (lambda n, x, z: n.relu(n.norm(x) - z), "no ReLU follows"),
    "two sums": (lambda n, x, z: n.relu(n.norm(x) + z + x), "no ReLU follows the sum"),
    "scaled": (lambda n, x, z: n.relu(torch.add(n.norm(x), z, alpha=2)), "no ReLU follows"),
    "written into another": (lambda n, x, z: n.relu(z.add_(n.norm(x))), "no ReLU follows"),
    "input read by a module": (lambda n, x, z: n.relu(n.norm(x) + n.relu6(x)), "its input or itself is used again"),
    "written in place": (lambda n, x, z: n.relu(n.norm(x) + operator.imul(z, 2)), "something is written in place"),
    "written by F": (lambda n, x, z: n.relu(n.norm(x) + F.relu(z, inplace=True)), "something is written in place"),
    "running statistics twice": (lambda n, x, z: n.relu(n.norm(x) + n.norm(z) * 2), "its input or itself is used"),
    "depends on the mode": (lambda n, x, z: n.norm(x).relu() if n.training else n.norm(x), "depends on the mode"),
    "passes the mode": (lambda n, x, z: F.dropout(n.norm(x).relu(), 0.0, n.training), "depends on the mode"),
    "asks what modules return": (
        lambda n, x, z: n.norm(x).relu() if isinstance(n.norm(x), torch.Tensor) else z,
        "classes of values",
    ),
    "depends on gradients": (lambda n, x, z: n.norm(x).relu() * (2 if torch.is_grad_enabled() else 2.0), "the mode"),
    "depends on values": (lambda n, x, z: n.norm(x).relu() if x.sum() > 0 else x, "TraceError"),
    "random": (lambda n, x, z: n.norm(x).relu() * (1 if random.random() < 2 else 3), "draws random numbers"),
    "tensors of its own": (lambda n, x, z: n.norm(x).relu() * torch.ones(()), "makes tensors"),
    "stores": (lambda n, x, z: setattr(n, "seen", x) or n.norm(x).relu(), "stores values"),
    "sets attributes": (lambda n, x, z: setattr(x, "seen", 1) or n.norm(x).relu(), "sets attributes of tensors"),
    "text": (lambda n, x, z: n.norm(x).relu() * len(str(z)), "writes tensors as text"),
    "stores in a list": (lambda n, x, z: n.kept.append(1) or n.norm(x).relu(), "stores values"),
}


@pytest.mark.parametrize("name", LEFT)
def test_left(name, fused_calls):
    body, reason = LEFT[name]
    net = randomized(Net(body))
    net.kept = []
    before = {n: id(value) for n, value in vars(net).items()}
    plan = plan_fuse(net)
    assert {n: id(value) for n, value in vars(net).items()} == before
    assert net.kept == []
    assert "norm" not in {change.names[0] for change in plan.changes}
    assert reason in next(left.reason for left in plan.left if left.names == ("norm",))
    other = copy.deepcopy(net)
    assert_same(plan.apply(), other, inputs())
    assert fused_calls == []


class Optional(nn.Sequential):
    def forward(self, x, mask=None):
        return super().forward(x if mask is None else x * mask)


class Listed(nn.Module):
    """Takes a tensor or a list of tensors, as torchvision's dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.relu = layers.BatchNorm2d(8), nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(x if isinstance(x, torch.Tensor) else torch.cat(x, 1)))


def test_optional_arguments_and_control_flow():
    net = Optional(layers.BatchNorm2d(4), nn.ReLU())
    assert "required arguments alone" in plan_fuse(net).left[0].reason
    assert "TraceError" in plan_fuse(switch(DataDependent(), "bn")).left[0].reason


def test_arguments_of_other_classes(fused_calls):
    net = fuse(Listed())
    x, z = (torch.randn(2, 8, 3, 3) for _ in range(2))
    torch.testing.assert_close(net(x), net.norm(x).relu())
    assert fused_calls == [False]
    torch.testing.assert_close(net([x[:, :4], z[:, 4:]]), net.norm(torch.cat((x[:, :4], z[:, 4:]), 1)).relu())
    assert fused_calls == [False] * 2
    torch.testing.assert_close(net((x[:, :4], z[:, 4:])), net.norm(torch.cat((x[:, :4], z[:, 4:]), 1)).relu())
    torch.testing.assert_close(net(x=x), net.norm(x).relu())
    assert fused_calls == [False] * 2
