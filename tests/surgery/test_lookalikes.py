"""What looks like a normalization is in the plan, and why it stays."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchvision
from timm.layers import EvoNorm2dB0, EvoNorm2dS0, FilterResponseNormAct2d, LayerNorm2d
from timm.layers.grn import GlobalResponseNorm
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from switchnorm.surgery import SwitchWarning, plan_switch, switch
from tests.surgery.nets import small_net

POSITIONS = "it normalizes over the channels at each position, which is no statistic of this library"


class ChannelsFirst(nn.Module):
    """A hand-written LayerNorm, as that of ConvNeXt."""

    def __init__(self, channels) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = 1e-6

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        y = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + self.eps)
        return self.weight[:, None, None] * y + self.bias[:, None, None]


class T5Norm(nn.Module):
    """A root mean square over the last dimension, under a name that says little."""

    def __init__(self, channels) -> None:
        super().__init__()
        self.gamma, self.variance_epsilon = nn.Parameter(torch.ones(channels)), 1e-6

    def forward(self, x):
        return self.gamma * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)


class AdaGroupNorm(nn.Module):
    """Scale and shift from an embedding, as that of diffusers."""

    def __init__(self, channels) -> None:
        super().__init__()
        self.linear = nn.Linear(4, channels)

    def forward(self, x):
        return F.group_norm(x, 2)


class Renorm(nn.Module):
    """Another statistic."""

    def __init__(self, channels) -> None:
        super().__init__()
        self.scale, self.epsilon = nn.Parameter(torch.ones(1, channels, 1, 1)), 1e-3

    def forward(self, x):
        return self.scale * x / (x.abs().mean((1, 2, 3), keepdim=True) + self.epsilon)


LAYERS = {
    "hand-written": (lambda: ChannelsFirst(8), f": {POSITIONS}"),
    "last dimension": (lambda: T5Norm(8), f": {POSITIONS}"),
    "timm LayerNorm2d": (lambda: LayerNorm2d(8), f": {POSITIONS}"),
    "LayerNorm": (lambda: nn.LayerNorm(8), f": {POSITIONS}"),
    "RMSNorm": (lambda: nn.RMSNorm(8), f": {POSITIONS}"),
    "LayerNorm of maps": (lambda: nn.LayerNorm((8, 4, 4)), ": its scale has a number for each place of (8, 4, 4)"),
    "AdaGroupNorm": (lambda: AdaGroupNorm(8), ""),
    "another statistic": (lambda: Renorm(8), ""),
    "GRN": (lambda: GlobalResponseNorm(8), ""),
    "FRN": (lambda: FilterResponseNormAct2d(8), ""),
    "EvoNorm S0": (lambda: EvoNorm2dS0(8, groups=2), ""),
    "EvoNorm B0": (lambda: EvoNorm2dB0(8), ""),
    "LRN": (lambda: nn.LocalResponseNorm(2), ""),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_is_left_with_a_reason(name):
    make, because = LAYERS[name]
    layer = make()
    plan = plan_switch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), layer), "sn")
    assert [change.names for change in plan.changes] == [("1",)]
    kind = type(layer).__name__
    assert [(left.names, left.reason) for left in plan.left] == [
        (("2",), f"{kind} is not a normalization that switches{because}")
    ]


def test_norms_of_weights_and_blocks_of_several_layers():
    class ConvNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = weight_norm(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8)

        def forward(self, x):
            return self.norm(self.conv(x))

    plan = plan_switch(nn.Sequential(ConvNorm(), spectral_norm(nn.Conv2d(8, 8, 3)), nn.Identity()), "gn")
    assert [change.names for change in plan.changes] == [("0.norm",)]
    assert [left.names[0] for left in plan.left] == [
        "0.conv.parametrizations.weight.0",
        "1.parametrizations.weight.0",
    ]
    assert all("normalizes weights, not what flows" in left.reason for left in plan.left)


def test_functions_are_named_with_the_module_that_calls_them():
    class Functional(nn.Module):
        def forward(self, x):
            x = F.batch_norm(x, None, None, training=True)
            x = F.instance_norm(x) + F.group_norm(x, 2) + torch.group_norm(x, 2)
            x = torch.ops.aten.native_layer_norm.default(x, x.shape[1:], None, None, 1e-5)[0]
            return F.layer_norm(x, x.shape[1:])

    plan = plan_switch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ModuleDict({"a": Functional()})["a"]), "sn")
    assert [(left.names, left.description) for left in plan.left] == [
        (("1",), f"{name}()")
        for name in ("batch_norm", "instance_norm", "group_norm", "native_layer_norm", "layer_norm")
    ]
    assert plan.left[0].reason == "a function that the forward pass of 1 calls; only modules switch"


def test_nothing_to_switch_warns_and_names_what_was_seen():
    with pytest.warns(SwitchWarning, match="nothing to switch to sn: .*18 x LayerNorm.*5 x LayerNorm2d") as found:
        switch(torchvision.models.convnext_tiny(weights=None), "sn")
    assert found[0].filename == __file__
    with pytest.warns(SwitchWarning, match="the model has no normalization"):
        switch(nn.Sequential(nn.Linear(2, 2)), "sn")


def test_switching_twice_is_quiet():
    net = switch(small_net(), "sn+ws")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        switch(net, "sn+ws")
        switch(small_net(), "sn")


def test_activations_and_what_is_abnormal_are_no_normalizations():
    names = ("TLU", "Abnormality", "NormalInit")
    net = nn.Sequential(*(type(name, (nn.ReLU,), {})() for name in names), type("Normalize", (nn.ReLU,), {})())
    assert [left.names for left in plan_switch(net, "sn").left] == [("3",)]


def test_running_statistics_make_a_normalization():
    class Frozen(nn.Module):
        """Not the affine map alone, so that it is left."""

        def __init__(self) -> None:
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.ones(8))

        def forward(self, x):
            return F.relu(x * self.weight[:, None, None])

    plan = plan_switch(nn.Sequential(nn.Conv2d(3, 8, 3), Frozen()), "sn")
    assert [left.reason for left in plan.left] == ["Frozen is not a normalization that switches"]
