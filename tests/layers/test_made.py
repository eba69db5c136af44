"""Layers remember what made them, and their classes stay what they were."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import Norm, Spec, channels_of, has_batch_statistics, kind_of, norm_of, register, registry
from switchnorm.surgery import calibrate, freeze_statistics, ghost, plan_switch, switch, sync
from tests.contracts.half import Half

pytestmark = pytest.mark.usefixtures("own_registry")


def two(layer: Any = nn.BatchNorm2d) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), layer(8), nn.ReLU(), nn.Conv2d(8, 12, 3), layer(12))


def sequence(channels: int) -> nn.Module:
    return nn.Sequential(nn.GroupNorm(1, channels), nn.Dropout(0.0))


class Scaled(nn.Module):
    """A weight of a shape that says nothing of the channels, or seems to."""

    def __init__(self, channels: int, ndim: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((1,) if ndim == 1 else (1, channels, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(1, -1, 1, 1)


class Wrapped(nn.Module):
    """A Batch Normalization inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


MAKERS = {
    "sequence": sequence,
    "none": lambda channels: nn.Identity(),
    "bn-mom": partial(nn.BatchNorm2d, momentum=0.01),
    "gn4": partial(nn.GroupNorm, 4),
    "torchs": nn.InstanceNorm2d,
    "scaled": Scaled,
    "one": partial(Scaled, ndim=1),
    "wrapped": Wrapped,
}
EVERY = pytest.mark.parametrize("name", MAKERS)


@EVERY
def test_torchs_classes_stay_what_they_are(name: str) -> None:
    others = [nn.Sequential(), nn.Identity(), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8)]
    before = [kind_of(module) for module in others]
    register(Norm(name, {2: MAKERS[name]}))
    net = nn.Sequential(two(), nn.Identity(), nn.Sequential(nn.Conv2d(12, 8, 1), nn.BatchNorm2d(8)))
    switch(net, name, include="0.1")
    assert [kind_of(module) for module in others] == before
    assert [change.names for change in plan_switch(net, "sn").changes] == [("0.1",), ("0.4",), ("2.1",)]
    assert type(ghost(nn.Sequential(nn.BatchNorm2d(8)), 2)[0]) is switchnorm.BatchNorm2d
    calibrate(nn.Sequential(nn.BatchNorm2d(8)), [torch.randn(2, 8, 3, 3)])


@EVERY
@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_what_is_made_switches_on_and_back(name: str, registered: bool, clone: Callable[[Any], Any]) -> None:
    spec: Any = MAKERS[name]
    if registered:
        norm = register(Norm(name, {2: MAKERS[name]}))
        spec = name
    net = clone(switch(two(), spec))
    assert [channels_of(net[at]) for at in (1, 4)] == [8, 12]
    if registered:
        assert norm_of(net[1]) is norm
    kind = type(net[1])
    switch(net, spec)
    assert type(net[1]) is kind
    assert [type(part) for part in net[1].children()] == [type(part) for part in MAKERS[name](8).children()]
    assert not [key for key in net.state_dict() if "made" in key]
    switch(net, "sn")
    assert [type(net[at]) for at in (1, 4)] == [switchnorm.SwitchNorm2d] * 2
    assert net[4].num_features == 12
    assert net(torch.randn(2, 3, 8, 8)).isfinite().all()


def test_torchs_classes_cannot_be_claimed() -> None:
    with pytest.raises(InputError, match="norm 'x' has Sequential among its classes, which is torch's; leave it out"):
        register(Norm("x", {2: sequence}, classes=(nn.Sequential,)))


def test_what_a_function_makes_of_a_registered_class_is_of_that_class() -> None:
    slow = register(Norm("sn-slow", {2: partial(switchnorm.SwitchNorm2d, momentum=0.01)}))
    layer = Spec("sn-slow").layer(4)
    assert norm_of(layer) is not slow
    assert norm_of(layer) is registry.find("sn")


class TestBatchStatistics:
    """Nothing that has some is passed over in silence."""

    class Hidden(nn.GroupNorm):
        """Statistics of the batch in a class whose base has none."""

        def __init__(self, channels: int) -> None:
            super().__init__(1, channels)
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean((0, 2, 3), keepdim=True)

    class Ema(nn.Module):
        """They are called otherwise."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.register_buffer("ema", torch.zeros(channels))

        def forward(self, x: Tensor) -> Tensor:
            return x - (x.mean((0, 2, 3)) if self.training else self.ema)[:, None, None]

    def test_a_subclass_with_a_forward_and_buffers_of_its_own(self) -> None:
        net = nn.Sequential(self.Hidden(3))
        assert has_batch_statistics(net[0])
        for use in (lambda: ghost(net, 2), lambda: sync(net), lambda: calibrate(net, [torch.randn(2, 3, 4, 4)])):
            with pytest.raises(InputError, match="layer '0' cannot take"):
                use()
        freeze_statistics(net)
        assert not net[0].training
        assert not has_batch_statistics(nn.InstanceNorm2d(3, track_running_stats=True))

    def test_layers_of_a_function_in_a_process_that_made_none(self) -> None:
        register(Norm("ema", {2: lambda channels: self.Ema(channels)}, batch_statistics=True))
        vars(layer := self.Ema(3)).update(_switchnorm_made=vars(Spec("ema").layer(3))["_switchnorm_made"])
        with pytest.raises(InputError, match="'ema' does not support ghost batches"):
            ghost(nn.Sequential(layer), 2)

    def test_running_statistics_of_another_name(self) -> None:
        register(Norm("ema", {2: self.Ema}, batch_statistics=True, calibrate=True))
        net = nn.Sequential(self.Ema(3))
        with pytest.raises(InputError, match="layer '0' cannot take calibrate: Ema lacks momentum or reset_running"):
            calibrate(net, [torch.randn(2, 3, 4, 4)])
        freeze_statistics(net)
        assert not net[0].training


def test_layers_must_be_new_and_have_their_parameters() -> None:
    shared = Half(8)
    with pytest.raises(InputError, match="layer '4': norm '<lambda>' must make a new layer each time, and made the sa"):
        switch(two(), lambda channels: shared)
    with pytest.raises(InputError, match="norm '<lambda>' makes a lazy LazyBatchNorm2d, whose parameters do not exist"):
        switch(two(), lambda channels: nn.LazyBatchNorm2d())
    net = switch(two(), lambda channels: Spec("gn").layer(channels))
    assert type(net[4]) is switchnorm.GroupNorm
