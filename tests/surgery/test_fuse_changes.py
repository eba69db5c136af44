"""A network changed before or after fusing computes what it would without."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from switchnorm import layers
from switchnorm.surgery import fuse, importance, plan_fuse, plan_switch, switch
from tests.surgery.fusing import Net
from tests.surgery.nets import small_net


def conv_norm_relu():
    return nn.Sequential(nn.Conv2d(3, 4, 3), layers.BatchNorm2d(4), nn.ReLU()).eval()


def hook_on(index):
    return lambda net: net[index].register_forward_hook(lambda module, args, output: output - 1)


def global_hook(net):
    def shift(module, args, output):
        return output - 1 if isinstance(module, nn.ReLU) else None

    return nn.modules.module.register_module_forward_hook(shift)


CHANGES = {
    "hook on ReLU": hook_on(2),
    "hook on the norm": hook_on(1),
    "pre-hook": lambda net: net[2].register_forward_pre_hook(lambda module, args: (args[0] - 1,)),
    "global hook": global_hook,
    "other activation": lambda net: net.__setitem__(2, nn.Sigmoid()),
    "other activation, past the module": lambda net: net._modules.__setitem__("2", nn.Sigmoid()),
    "other norm": lambda net: net.__setitem__(1, nn.InstanceNorm2d(4)),
    "appended": lambda net: net.append(nn.Sigmoid()),
    "inserted": lambda net: net.insert(2, nn.Sigmoid()),
    "removed": lambda net: net.__delitem__(2),
    "patched": lambda net: setattr(net[2], "forward", lambda x: x - 1),
    "an activation of its own": lambda net: setattr(net[1], "activation", "relu"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_after_fusing_count(name, fused_calls):
    fused, plain = fuse(conv_norm_relu()), conv_norm_relu()
    plain.load_state_dict(fused.state_dict())
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(fused(x), plain(x))
    assert len(fused_calls) == 1
    handles = [CHANGES[name](net) for net in (fused, plain)]
    torch.testing.assert_close(fused(x), plain(x))
    assert len(fused_calls) == 1
    if "hook" in name:
        for handle in handles:
            handle.remove()
        torch.testing.assert_close(fused(x), plain(x))
        assert len(fused_calls) == 2


def test_attributes_that_a_forward_pass_reads_count(fused_calls):
    def body(net, x, z):
        return net.norm(x).relu() * net.factor

    net = Net(body)
    net.factor = 2.0
    fuse(net)
    x = torch.randn(2, 4, 3, 3)
    before = net.eval()(x, x)
    net.train().eval()
    net.norm.weight = nn.Parameter(torch.ones(4))
    net.new = 1
    net.other = nn.Identity()
    net(x, x)
    assert len(fused_calls) == 2
    net.factor = 3.0
    torch.testing.assert_close(net(x, x), before * 1.5)
    assert len(fused_calls) == 2
    fuse(net)
    torch.testing.assert_close(net(x, x), before * 1.5)
    assert len(fused_calls) == 3


@pytest.mark.parametrize("index", [1, 2])
def test_hooks_before_fusing_are_respected(index):
    net = conv_norm_relu()
    hook_on(index)(net)
    x = torch.randn(2, 3, 6, 6)
    expected = net(x)
    assert plan_fuse(net).changes == []
    torch.testing.assert_close(fuse(net)(x), expected)


def test_ties_and_fusing_twice():
    block = nn.Sequential(layers.BatchNorm2d(4), nn.ReLU())
    net = nn.ModuleDict({"a": block, "b": nn.Sequential(block, layers.BatchNorm2d(4), nn.ReLU())})
    plan = plan_fuse(net)
    assert [change.names for change in plan.changes] == [("a.0", "b.0.0"), ("b.1",)]
    plan.apply()
    assert net["a"] is net["b"][0]
    again = plan_fuse(net)
    assert again.changes == []
    assert [left.reason for left in again.left] == ["in b: already fused"] * 2
    again.apply()
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(net["a"](x), F.relu(F.batch_norm(x, None, None, training=True)))


def test_switching_after_fusing(fused_calls):
    net = fuse(switch(small_net(), "bn"))
    assert plan_switch(net, "sn+ws").wiring == "tracing"
    switch(net, "sn+ws").eval()
    assert len(importance(net)) == 2
    plain = switch(small_net(), "sn+ws").eval()
    plain.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 8, 8)
    fused_calls.clear()
    torch.testing.assert_close(net(x), plain(x))
    assert len(fused_calls) == 2


def test_an_activation_survives_a_switch():
    net = nn.Sequential(layers.SwitchNorm2d(4, activation="relu"))
    for spec in ("gn", "bn", "ssn", "ln"):
        assert switch(net, spec)[0].activation == "relu"
    assert plan_switch(net, "ln").left[0].reason == "already ln"
    assert plan_fuse(nn.Sequential(net[0], nn.ReLU())).left[0].reason == "already ends with relu"
