"""Fusing normalization, addition and ReLU: what is fused, what is not, and that nothing else changes."""

from __future__ import annotations

import copy
import io
import operator
import pickle
import random

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import switchnorm
from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.surgery import fuse, importance, plan_fuse, plan_switch, switch
from tests.surgery.nets import DataDependent, PreActivation, SqueezeExcite, small_net


class Net(nn.Module):
    """A normalization, a second one, and activations, put together by a function of the network and its inputs."""

    def __init__(self, body, norm=layers.BatchNorm2d) -> None:
        super().__init__()
        self.body = body
        self.norm, self.other = norm(4), norm(4)
        self.relu, self.relu_in_place, self.relu6 = nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()
        self.identity = nn.Identity()
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x, z):
        return self.body(self, x, z)


def inputs():
    return [torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]


def randomized(net):
    for p in net.parameters():
        nn.init.normal_(p, 0.5)
    return net.double()


@pytest.fixture
def fused_calls(monkeypatch):
    """How many layers ended with ReLU, and how many of these added a residual."""
    calls = []
    for cls in layers.registry.find("bn").layers[2], layers.SwitchNorm2d, layers.GroupNorm:
        own = cls.forward

        def spy(self, x, residual=None, activation=None, own=own):
            if activation:
                calls.append(residual is not None)
            return own(self, x, residual, activation)

        monkeypatch.setattr(cls, "forward", spy)
    return calls


def run(net, given, seed=0):
    """Output, gradients of inputs and parameters, buffers, and the inputs afterwards."""
    torch.manual_seed(seed)
    leaves = [x.detach().clone().requires_grad_() for x in given]
    handed = [leaf * 1 for leaf in leaves]  # so that a network may write into them
    y = net(*handed)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    gradients = torch.autograd.grad(y, [*leaves, *net.parameters()], cotangent, allow_unused=True)
    return [y.detach(), *handed, *gradients, *(b.clone() for b in net.buffers())]


def assert_same(ours, theirs, given):
    for training in (True, False):
        torch.testing.assert_close(
            run(ours.train(training), given), run(theirs.train(training), given), rtol=1e-10, atol=1e-10
        )


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


@pytest.mark.parametrize("spec", ["bn", "sn", "gn"])
@pytest.mark.parametrize("name", NETWORKS)
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
