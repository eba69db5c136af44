"""Nothing that a layer has learned or was told is lost in a switch without a word."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d, GroupNormAct
from torch import Tensor, nn
from torch.nn import functional as F

import switchnorm
from switchnorm.layers import BatchChannelNorm2d, BatchNorm2d, Norm, SwitchNorm2d, kind_of, register
from switchnorm.surgery import ghost, plan_switch, switch, sync
from tests.contracts.half import Half

pytestmark = pytest.mark.usefixtures("own_registry")


class Tau(nn.Module):
    """A third parameter besides scale and shift."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.randn(channels))
        self.tau = nn.Parameter(torch.randn(channels))
        self.register_buffer("seen", torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x * self.weight[:, None, None], self.tau[:, None, None])


class Obedient(nn.Module):
    """Obeys attributes that its constructor does not take."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels
        self.ghost = None
        self.sync = False
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x


def lost(model: nn.Module, spec: Any, **options: Any) -> list[str]:
    (change,) = plan_switch(model, spec, **options).changes
    return [name for name in change.reason.partition("not carried over: ")[2].split(", ") if name]


def test_layers_of_one_normalizer_keep_all_parameters_and_buffers() -> None:
    register(Norm("tau", {2: Tau}))
    register(Norm("half", {1: Half, 2: Half, 3: Half}))
    for old, name in ((BatchChannelNorm2d(8), "bcn"), (Tau(8), "tau"), (Half(8), "half")):
        before = {**dict(old.named_parameters()), **dict(old.named_buffers())}
        assert lost(old, name, eps=0.5) == []
        new = switch(old, name, eps=0.5)
        assert new is not old
        after = {**dict(new.named_parameters()), **dict(new.named_buffers())}
        assert {key: id(value) for key, value in after.items()} == {key: id(value) for key, value in before.items()}


def test_parameters_without_a_place_are_named() -> None:
    register(Norm("tau", {2: Tau}))
    assert lost(BatchChannelNorm2d(8), "gn") == ["channel_weight", "channel_bias"]
    assert lost(BatchChannelNorm2d(8), "bcn:2") == ["channel_weight", "channel_bias"]
    assert lost(Tau(8), "bn") == ["tau", "seen"]
    assert lost(SwitchNorm2d(8), "bn") == ["mixing logits"]
    assert lost(SwitchNorm2d(8), "ssn") == []


def test_an_activation_of_the_new_layer_stays_the_only_one() -> None:
    def make(channels: int) -> nn.Module:
        return GroupNormAct(channels, num_groups=4, act_layer=nn.SiLU)

    net = nn.Sequential(BatchNormAct2d(8, act_layer=nn.ReLU))
    assert lost(net, make) == ["act and drop"]
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(switch(net, make)(x), make(8)(x))
    assert isinstance(net[0].act, nn.SiLU)
    # And goes along when the layer switches again.
    torch.testing.assert_close(switch(net, "gn:4")(x), make(8)(x))


def test_what_a_registration_binds_wins_over_what_is_carried() -> None:
    register(Norm("slow", {2: partial(BatchNorm2d, momentum=0.01)}))
    register(Norm("slower", {2: partial(BatchNorm2d, momentum=0.001)}))
    register(Norm("sn-il", {2: partial(SwitchNorm2d, statistics=("instance", "layer"))}))
    old = nn.BatchNorm2d(4, momentum=0.3, eps=0.2)
    assert switch(old, "slow").momentum == 0.01
    assert switch(old, "slow").eps == 0.2
    assert switch(old, "slow", momentum=0.5).momentum == 0.5
    slow = switch(old, "slow")
    assert switch(slow, "slow") is slow
    assert switch(slow, "slower").momentum == 0.001
    assert switch(SwitchNorm2d(4), "sn-il").statistics == ("instance", "layer")


def test_ghost_and_sync_are_carried_to_and_from_attributes() -> None:
    register(Norm("obedient", {2: Obedient}, ghost=True, sync=True))
    for setting, use, value in (("ghost", ghost, 2), ("sync", sync, True)):
        net = nn.Sequential(BatchNorm2d(4))
        for spec in ("obedient", "bn", "sn", "obedient", BatchNorm2d, "ibn"):
            use(net, value)
            switch(net, spec)
            assert getattr(net[0], setting) == value


class Gamma(nn.Module):
    """Says that it is affine, and calls its scale otherwise."""

    def __init__(self, channels: int, affine: bool = True, slope: float = 0.0) -> None:
        super().__init__()
        self.num_features = channels
        self.affine = affine
        self.slope = slope
        self.gamma = nn.Parameter(torch.ones(channels))
        self.activation = nn.SiLU()
        self.constants = (torch.ones(2), torch.ones(2))
        self.register_forward_pre_hook(self.double)

    @property
    def weight(self) -> Tensor:
        """Of all, as seen from outside."""
        return self.gamma + 1

    @staticmethod
    def double(module: nn.Module, args: Any) -> Any:
        return (2 * args[0],)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_layers_that_call_things_otherwise() -> None:
    register(Norm("gamma", {2: Gamma}))
    net = nn.Sequential(nn.BatchNorm2d(4))
    net[0].register_forward_hook(lambda module, args, y: y + 1)
    x = torch.randn(2, 4, 3, 3)
    assert lost(net, "gamma") == ["weight", "bias"]
    for slope in (0.1, 0.2):
        switch(net, "gamma", slope=slope)
        torch.testing.assert_close(net(x), 2 * x + 1)
    assert plan_switch(net, "gamma", slope=0.2).changes == []
    assert type(switch(net, "bn")[0]) is switchnorm.BatchNorm2d
    # Its own hook went with it, the other one stays.
    assert [len(net[0]._forward_pre_hooks), len(net[0]._forward_hooks)] == [0, 1]


def test_a_layer_that_synchronises_by_itself_takes_the_place_of_another() -> None:
    assert type(switch(nn.SyncBatchNorm(4), nn.SyncBatchNorm)) is nn.SyncBatchNorm
    assert kind_of(switch(nn.SyncBatchNorm(4), nn.SyncBatchNorm)).norm.name == "bn"


class NormActivation(nn.GroupNorm):
    """Ends with an activation that it holds, as transformers' of BiT."""

    def __init__(self, activation) -> None:
        super().__init__(2, 8)
        self.activation = activation

    def forward(self, x):
        return self.activation(F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps))


def test_an_activation_alone_is_taken_along():
    for activation in (nn.ReLU(), nn.Identity(), nn.GELU()):
        net, x = nn.Sequential(NormActivation(activation)), torch.randn(3, 8, 5, 7)
        nn.init.normal_(net[0].weight)
        expected = net(x)
        switch(net, "gn:2")
        assert type(net[0]) is not NormActivation
        assert net[0].act is activation
        torch.testing.assert_close(net(x), expected)
        assert isinstance(switch(net, "sn")[0].act, type(activation))


def test_an_activation_that_is_not_applied_to_the_normalization_alone_is_no_tail():
    class Twice(NormActivation):
        def forward(self, x):
            return super().forward(x) + self.activation(x)

    plan = plan_switch(Twice(nn.ReLU()), "sn")
    assert [left.reason for left in plan.left] == ["Twice has a forward of its own"]
