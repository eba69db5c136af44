"""Fusing whole networks: what is fused, what stays as it was, copies, compilation and the plan."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn

import switchnorm
from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.surgery import fuse, plan_fuse, switch
from tests.surgery.fusing import assert_same
from tests.surgery.nets import PreActivation, SqueezeExcite, small_net

NETWORKS = {
    "small": (lambda: small_net(), (3, 8, 8), 2),
    "gate": (lambda: SqueezeExcite(), (3, 8, 8), 1),
    "pre-activation": (lambda: PreActivation(), (3, 8, 8), 3),
    "resnet18": (lambda: torchvision.models.resnet18(), (3, 32, 32), 17),
    "bottleneck": (lambda: torchvision.models.resnet50().layer2, (256, 4, 4), 12),
    "densenet": (lambda: torchvision.models.DenseNet(4, (2, 2), 8), (3, 32, 32), 10),
    "mobilenet": (lambda: torchvision.models.mobilenet_v2(width_mult=0.1), (3, 32, 32), 0),
    "vgg": (lambda: torchvision.models.vgg11_bn(num_classes=2).features, (3, 32, 32), 8),
    "timm resnet": (lambda: timm.create_model("resnet10t", num_classes=2), (3, 32, 32), 11),
}


def with_normalizers():
    """The first network with every normalizer, the others with one in turn; the sweep has the whole product."""
    specs = ("bn", "sn", "gn")
    for number, name in enumerate(NETWORKS):
        for spec in specs:
            kept = number == 0 or spec == specs[number % len(specs)]
            yield pytest.param(name, spec, marks=() if kept else pytest.mark.sweep)


@pytest.mark.parametrize(("name", "spec"), [*with_normalizers()])
def test_networks(name, spec, fused_calls):
    make, shape, count = NETWORKS[name]
    net = switch(make(), spec).double()
    fused = copy.deepcopy(net)
    parameters, modules = list(fused.parameters()), list(fused.modules())
    plan = plan_fuse(fused)
    assert plan.apply() is fused
    assert len(plan.changes) == count
    assert len(plan.changes) + len(plan.left) == len([m for m in net.modules() if layers.norm_of(m) is not None])
    assert all(a is b for a, b in zip(fused.parameters(), parameters, strict=True))
    assert all(a is b for a, b in zip(fused.modules(), modules, strict=True))
    assert list(fused.state_dict()) == list(net.state_dict())
    assert_same(fused, net, [torch.randn(2, *shape, dtype=torch.float64)])
    assert len(fused_calls) == 2 * count


def test_without_switching_nothing_is_fused_and_the_plan_says_so():
    plan = plan_fuse(small_net())
    assert plan.changes == []
    assert {left.reason for left in plan.left} == {"not a layer of this library; switch it first"}


def torch_saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), torch_saved])
def test_copies_are_fused_too_and_independent(clone, fused_calls):
    net = fuse(switch(torchvision.models.resnet18(num_classes=2), "bn")).eval()
    net.layer1[0].relu.register_forward_hook(lambda module, args, output: output)
    handle = net.layer2.register_forward_hook(lambda module, args, output: output)
    other = clone(fuse(switch(torchvision.models.resnet18(num_classes=2), "bn")).eval())
    fused_calls.clear()
    other(torch.randn(1, 3, 32, 32))
    assert len(fused_calls) == 17
    other.load_state_dict(net.state_dict())
    handle.remove()
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(other(x), net(x))
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    assert other(x).any()
    assert not net(x).any()
    assert isinstance(other.layer1[0], torchvision.models.resnet.BasicBlock)


def test_module_identity_names_and_methods_stay():
    net = switch(torchvision.models.resnet18(), "bn")
    block = net.layer1[0]
    calls = []
    block.register_forward_hook(lambda module, args, output: calls.append(1))
    fuse(net)
    assert net.layer1[0] is block
    assert isinstance(block, torchvision.models.resnet.BasicBlock)
    assert type(block).__name__ == "FusedBasicBlock"
    net._forward_impl(torch.randn(2, 3, 32, 32))
    assert calls == [1]


def test_compile_export_and_trace():
    torch.compiler.reset()
    net = fuse(switch(small_net(), "sn")).eval()
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    torch.testing.assert_close(torch.compile(net, backend="aot_eager", fullgraph=True)(x), expected)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), expected)


def test_graph_modules_and_subclasses_are_left():
    class Sub(layers.BatchNorm2d):
        pass

    plan = plan_fuse(nn.Sequential(Sub(4), nn.ReLU()))
    assert plan.left[0].reason == "Sub is a subclass"
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.ReLU()))
    traced.norm = layers.BatchNorm2d(4)
    assert "copied and pickled in a way of its own" in plan_fuse(traced).left[0].reason


def test_plan_changes_nothing_and_reads_as_a_table():
    net = switch(torchvision.models.resnet18(), "bn").layer2[0]
    plan = plan_fuse(net)
    assert type(net) is torchvision.models.resnet.BasicBlock
    assert str(plan).splitlines() == [
        "fuse: 2 normalizations fused, 1 left as before",
        "",
        "layer  before            after                          reason",
        "bn1    BatchNorm2d(128)  BatchNorm2d(128) + ReLU        in (the model)",
        "bn2    BatchNorm2d(128)  BatchNorm2d(128) + add + ReLU  in (the model)",
        "",
        "layer left    is                reason",
        "downsample.1  BatchNorm2d(128)  no ReLU follows",
    ]
    assert plan.apply() is net
    assert switchnorm.fuse(nn.ReLU()).training


def test_scripted_modules_are_refused():
    with pytest.raises(InputError, match="fuse the model before it is scripted"):
        fuse(torch.jit.script(nn.ReLU()))
