"""Folding whole networks: equal to eager, and what becomes of their layers."""

from __future__ import annotations

import io
import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn

import switchnorm
from switchnorm.layers import kind_of
from switchnorm.models import create_model
from switchnorm.surgery import calibrate, fold, fuse, plan_fold, switch
from tests.surgery.detectors import mask_rcnn, pictures
from tests.surgery.folding.folded import assert_same, chosen, trained
from tests.surgery.nets import DataDependent, PreActivation, SqueezeExcite, small_net

BEFORE = "part of the layer before"


def dear(*values):
    return pytest.param(*values, marks=pytest.mark.sweep)


NETWORKS = {
    "small": (lambda: small_net(), 8, 2),
    "gate": (lambda: SqueezeExcite(), 8, 1),
    "pre-activation": (lambda: PreActivation(), 8, 0),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=3), 32, 20),
    "densenet": (lambda: torchvision.models.DenseNet(4, (2, 2), 8, num_classes=3), 32, 5),
    "mobilenet": (lambda: torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=3), 32, 52),
    "own resnet": (lambda: create_model("cifar_resnet20", norm="bn", num_classes=3), 32, 21),
    "timm resnet": (lambda: timm.create_model("resnet10t", num_classes=3), 32, 14),
    "timm's padding": (lambda: timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=3), 32, 34),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_statistics_become_part_of_convolutions(name):
    make, side, count = NETWORKS[name]
    torch.manual_seed(0)
    plan, folded = assert_same(trained(make()), torch.randn(2, 3, side, side))
    assert plan.counts.get(BEFORE, 0) == count
    assert len([m for m in folded.modules() if kind_of(m) is not None]) == len(plan.left)


@pytest.mark.parametrize("norm", ["sn", "ssn", "gn+ws", "bcn+ws", *map(dear, ("in", "ln", "ibn"))])
def test_every_normalizer(norm):
    torch.manual_seed(0)
    net = trained(switch(timm.create_model("resnet10t", num_classes=3), norm))
    x = torch.randn(2, 3, 64, 64)
    calibrate(net, [x])
    plan, folded = assert_same(net, x, torch.randn(1, 3, 65, 79))
    assert not plan.left
    assert not any(kind_of(module) for module in folded.modules())
    assert not any(isinstance(module, switchnorm.WSConv2d) for module in folded.modules())
    assert len(plan.changes) == len([m for m in net.modules() if kind_of(m)]) + plan.counts.get("plain convolution", 0)


RULES = {
    "batch": lambda i: ("batch", "batch"),
    "a third each": lambda i: (("instance", "layer", "batch")[i % 3],) * 2,
    "mean and variance apart": lambda i: (
        ("instance", "layer", "batch")[i % 3],
        ("instance", "layer", "batch")[i // 3 % 3],
    ),
}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        dear("batch", None),
        dear("batch", (64, 96)),
        dear("a third each", None),
        dear("a third each", (64, 96)),
        ("mean and variance apart", None),
        ("mean and variance apart", (64, 96)),
    ],
)
def test_what_sparse_layers_chose(name, size):
    torch.manual_seed(0)
    net = chosen(trained(switch(torchvision.models.resnet18(num_classes=3), "ssn")), RULES[name])
    x = torch.randn(2, 3, 64, 96)
    calibrate(net, [x])
    plan, folded = assert_same(net, x, size=size)
    constant = sum(RULES[name](i) == ("batch", "batch") for i in range(20))
    assert plan.counts[BEFORE] == constant
    plain = [module for module in folded.modules() if isinstance(module, nn.Identity)]
    assert len(plain) == constant


def test_folded_batch_statistics_are_those_of_a_batch_norm():
    torch.manual_seed(0)
    net = trained(torchvision.models.resnet18(num_classes=3))
    sparse = switch(trained(torchvision.models.resnet18(num_classes=3)), "ssn")
    sparse.load_state_dict(net.state_dict(), strict=False)
    ours, theirs = fold(chosen(sparse, RULES["batch"])), fold(net)
    assert str(ours) == str(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("norm", ["ssn", dear("bn")])
def test_networks_for_segmentation(norm):
    torch.manual_seed(0)
    net = trained(create_model("resnet18_dilated8+ppm_bilinear_deepsup", norm=norm, num_classes=4))
    chosen(net, RULES["a third each"])
    plan, _ = assert_same(net, torch.randn(2, 3, 41, 33), output=lambda y: y["out"])
    assert not plan.left


@pytest.mark.parametrize("norm", ["bn", "sn"])
def test_detectors(norm):
    torch.manual_seed(0)
    net = trained(mask_rcnn())
    if norm != "bn":
        trained(switch(net, norm))
    plan, images = plan_fold(net), pictures(2)[0]
    assert not plan.left
    with torch.no_grad():
        ours, theirs = plan.apply()(images), net(images)
    for one, other in zip(ours, theirs, strict=True):
        assert list(one) == list(other)
        for name in one:
            torch.testing.assert_close(one[name], other[name])


def test_a_fused_network_is_folded_as_it_was():
    torch.manual_seed(0)
    net = trained(switch(torchvision.models.resnet18(num_classes=3), "ssn"))
    fused = fuse(chosen(net, RULES["a third each"]))
    _, folded = assert_same(fused, torch.randn(2, 3, 32, 32))
    assert type(folded.layer1[0]) is torchvision.models.resnet.BasicBlock


@pytest.mark.parametrize(
    "wrap",
    [
        dear(lambda net: torch.compile(net, backend="eager")),
        nn.DataParallel,
        torch.fx.symbolic_trace,
    ],
)
def test_wrapped(wrap):
    torch.manual_seed(0)
    plan, _ = assert_same(wrap(trained(small_net())), torch.randn(2, 3, 8, 8))
    assert plan.counts == {BEFORE: 2}


def test_a_network_that_cannot_be_traced_is_folded_in_parts():
    torch.manual_seed(0)
    net = trained(DataDependent())
    plan, _ = assert_same(net, torch.randn(2, 3, 8, 8))
    assert all("cannot be traced" in left.reason for left in plan.left)


def test_copies_pickles_and_exports():
    torch.manual_seed(0)
    net = chosen(trained(switch(timm.create_model("resnet10t", num_classes=3), "ssn")), RULES["a third each"])
    folded = fold(net)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = folded(x)
        assert torch.equal(pickle.loads(pickle.dumps(folded))(x), expected)
        file = io.BytesIO()
        torch.save(folded, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(x), expected)
        exported = torch.export.export(folded, (x,)).module()
        assert torch.allclose(exported(x), expected, 1e-4, 1e-5)
        traced = torch.jit.trace(folded, x)
        assert torch.allclose(traced(x), expected, 1e-4, 1e-5)
        assert torch.allclose(fold(folded)(x), expected, 1e-4, 1e-5)


def test_a_copy_of_half_precision():
    torch.manual_seed(0)
    net = trained(small_net()).to(torch.bfloat16)
    folded, x = fold(net), torch.randn(2, 3, 8, 8).to(torch.bfloat16)
    assert {p.dtype for p in folded.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        assert torch.allclose(folded(x), net(x), 0.05, 0.05)
