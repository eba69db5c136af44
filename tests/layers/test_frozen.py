"""Frozen batch normalizations of any library, known by structure, and what becomes of them."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import nn
from torch.nn import functional as F

import switchnorm
from switchnorm import layers
from switchnorm.layers.frozen import frozen_dims, frozen_eps
from switchnorm.surgery import plan_switch, switch


class Held(nn.Module):
    """The four vectors as buffers."""

    def __init__(self, channels) -> None:
        super().__init__()
        self.register_buffer("weight", torch.rand(channels) + 0.5)
        self.register_buffer("bias", torch.randn(channels))
        self.register_buffer("running_mean", torch.randn(channels))
        self.register_buffer("running_var", torch.rand(channels) + 0.5)


class Detr(Held):
    """Hugging Face's: the epsilon stands in the forward pass alone."""

    def forward(self, x):
        w, b, v, m = (t.reshape(1, -1, 1, 1) for t in (self.weight, self.bias, self.running_var, self.running_mean))
        scale = w * (v + 1e-3).rsqrt()
        return x * scale + (b - m * scale)


class Detectron(Held):
    """detectron2's: a counter, and torch's function."""

    def __init__(self, channels, eps=1e-4) -> None:
        super().__init__(channels)
        self.num_features, self.eps = channels, eps
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class Volumes(Held):
    """Of videos."""

    def forward(self, x):
        shape = (1, -1, 1, 1, 1)
        scale = self.weight * (self.running_var + 1e-5) ** -0.5
        return (x - self.running_mean.view(shape)) * scale.view(shape) + self.bias.view(shape)


class Squared(Held):
    """Computes something else."""

    def forward(self, x):
        return x.square() * self.weight.view(1, -1, 1, 1)


class Trained(Held):
    """Normalizes by the batch in training."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


FROZEN = {
    "Hugging Face": (lambda: Detr(6), 2, 1e-3),
    "detectron2": (lambda: Detectron(6), 2, 1e-4),
    "one channel": (lambda: Detectron(1, 1e-3), 2, 1e-3),
    "volumes": (lambda: Volumes(6), 3, 1e-5),
    "torchvision": (lambda: torchvision.ops.FrozenBatchNorm2d(6, eps=1e-2), 2, 1e-2),
    "timm": (lambda: FrozenBatchNormAct2d(6, eps=1e-3, act_layer=nn.SiLU), 2, 1e-3),
}


@pytest.mark.parametrize("name", FROZEN)
def test_kinds_dimensions_and_epsilon(name):
    make, dims, eps = FROZEN[name]
    layer = make()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    assert frozen_dims(layer) == dims
    assert frozen_eps(layer) == pytest.approx(eps, rel=1e-4)
    kind = layers.kind_of(layer)
    assert kind is not None
    assert kind.frozen
    assert not layers.has_batch_statistics(layer)
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", FROZEN)
def test_bn_in_evaluation_computes_the_same(name):
    make, dims, _ = FROZEN[name]
    old = make().eval()
    for buffer in old.buffers():
        buffer.uniform_(0.5, 2)
    new = switch(copy.deepcopy(old), "bn").eval()
    assert isinstance(new, layers.registry.find("bn").layers[dims])
    x = torch.randn(2, len(old.weight), *(4, 5, 3)[:dims])
    torch.testing.assert_close(new(x), old(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", [Squared, Trained])
def test_what_computes_something_else_is_none(cls):
    assert frozen_dims(cls(6)) is None
    assert layers.kind_of(cls(6)) is None


def test_scale_and_shift_train_where_the_convolution_before_them_does():
    net = nn.Sequential(nn.Conv2d(3, 6, 1), Detr(6), nn.Conv2d(6, 6, 1), Detr(6), nn.ReLU())
    net[0].requires_grad_(False)
    plan = plan_switch(net, "sn")
    assert [change.reason for change in plan.changes] == [
        "2d by its class; mean_weight and var_weight stay constant, as all around; "
        "scale and shift stay constant as 0 does",
        "2d by its class; scale and shift train as 2 does",
    ]
    plan.apply()
    assert [net[i].weight.requires_grad for i in (1, 3)] == [False, True]
    assert [net[i].bias.requires_grad for i in (1, 3)] == [False, True]
    assert [net[i].mean_weight.requires_grad for i in (1, 3)] == [False, True]
    assert plan.new_parameters == (
        *("1.weight", "1.bias", "1.mean_weight", "1.var_weight"),
        *("3.weight", "3.bias", "3.mean_weight", "3.var_weight"),
    )


@pytest.mark.parametrize("spec", ["bn", "sn", "ssn", "gn:8"])
def test_an_eps_of_zero_is_made_up_for(spec):
    """As torchvision's detectors have it that come with weights; what one object has says nothing of others."""
    old = torchvision.ops.FrozenBatchNorm2d(8, eps=0.0)
    for buffer in old.buffers():
        buffer.copy_(torch.rand(8) + 0.5)
    old.running_var.mul_(1e-5)
    assert (frozen_dims(old), frozen_eps(old)) == (2, 0.0)
    assert frozen_eps(torchvision.ops.FrozenBatchNorm2d(8)) == 1e-5
    x = torch.randn(2, 8, 9, 9) * old.running_var.sqrt()[:, None, None] + old.running_mean[:, None, None]
    expected = old(x)
    (change,) = plan_switch(old, spec).changes
    assert change.function.endswith(", scale and shift fitted")
    new = switch(copy.deepcopy(old), spec).eval()
    assert new.eps == 1e-5
    off = (new(x) - expected).abs().max()
    assert off < (1e-4 if spec == "bn" else 2)


def test_networks_with_an_eps_of_zero_take_what_others_take():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), torchvision.ops.FrozenBatchNorm2d(8, eps=0.0), nn.BatchNorm2d(8))
    switchnorm.ghost(net, 2)
    switchnorm.set_momentum(net, 0.2)
    switchnorm.calibrate(net, [torch.randn(4, 3, 8, 8)])
    assert type(net[1]) is torchvision.ops.FrozenBatchNorm2d
