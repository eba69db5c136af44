"""Registering a normalizer: what is refused, and what follows from nothing but its class."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import (
    BatchNorm2d,
    Norm,
    Spec,
    all_norms,
    color_of,
    norm_names,
    norm_of,
    register,
)
from switchnorm.layers.options import options_of
from switchnorm.models import parse_norm
from switchnorm.report.common.figures import norm_styles
from switchnorm.runs.appearance import registered
from switchnorm.surgery import calibrate, ghost, plan_switch, switch, sync
from tests.contracts.half import HALF, Half, half

__all__ = ["half"]


class OwnBatch(nn.Module):
    """Statistics of the batch, of which nothing but a buffer tells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] / x.std((0, 2, 3), keepdim=True)


pytestmark = pytest.mark.usefixtures("own_registry")


def two(layer: Any) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), layer(8), nn.ReLU(), nn.Conv2d(8, 12, 3), layer(12))


def test_it_can_be_named_everywhere() -> None:
    assert register(HALF) is HALF
    assert norm_names()[-1] == "half"
    assert str(Spec.parse("half+ws")) == "half+ws"
    assert type(Spec("half").layer(6, 3)) is Half
    assert type(switch(two(nn.BatchNorm2d), "half", eps=1e-2)[1]) is Half
    assert switch(two(nn.BatchNorm2d), "half", eps=1e-2)[4].eps == 1e-2
    assert isinstance(switch(two(nn.BatchNorm2d), "half+ws")[0], switchnorm.WSConv2d)
    assert norm_of(Half(4)) is HALF
    assert norm_of(nn.BatchNorm2d(4)) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bn", "norm 'bn' is registered already; the nearest free name is 'bn2'"),
        ("my+ws", "norm name 'my\\+ws' is malformed.*; the nearest valid name is 'my_ws'"),
        ("gn:2", "the nearest valid name is 'gn_2'"),
        ("My Norm", "the nearest valid name is 'my_norm'"),
        ("", "the nearest valid name is 'norm'"),
        (3, "malformed"),
        ("null", "norm name 'null' is no text in YAML files; the nearest valid name is 'norm_null'"),
        ("off", "the nearest valid name is 'norm_off'"),
        ("1.5", "the nearest valid name is 'norm_1.5'"),
    ],
)
def test_names_that_are_taken_or_malformed(name: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        register(Norm(name, {2: Half}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (Norm("x", {4: Half}), r"norm 'x' has layers for \[4\] dimensions; choose among 1, 2 and 3"),
        (Norm("x", {}), "choose among 1, 2 and 3"),
        (Norm("x", {2: Half(3)}), "norm 'x' needs a class or function for 2 dimensions, got Half"),
        (Norm("x", {2: Half}, color="red"), "norm 'x' has color 'red'; the form is '#rrggbb'"),
        (Norm("x", {2: Half}, color=3), "norm 'x' has color 3; the form is '#rrggbb'"),  # type: ignore[arg-type]
        (Norm("x", {2: Half}, order="first"), "norm 'x' has order 'first', which is no"),  # type: ignore[arg-type]
        (Norm("x", Half), "norm 'x' needs layers by their number of dimensions"),  # type: ignore[arg-type]
        (Half, "register takes a Norm, got type"),
    ],
)
def test_registrations_that_cannot_be(norm: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        register(norm)
    assert "x" not in norm_names()


@pytest.mark.parametrize("name", ["frn", "haf", "half"])
def test_unknown_names_are_refused_everywhere(name: str) -> None:
    register(Norm("frm", {2: Half}))
    net = two(nn.BatchNorm2d)
    for use in (
        lambda: Spec(name),
        lambda: Spec.parse(name),
        lambda: parse_norm(name),
        lambda: switch(net, name),
        lambda: plan_switch(net, name),
        lambda: switchnorm.create_model("cifar_resnet20", norm=name),
        lambda: switchnorm.create_model("resnet18", norm=name),
    ):
        with pytest.raises(InputError, match=f"norm '{name}' is unknown; (did you mean|choose from)"):
            use()


def test_groups_where_there_are_none() -> None:
    with pytest.raises(InputError, match="norm 'sn' takes no groups; 'gn' and 'bcn' do"):
        Spec("sn", groups=4)


def test_a_layer_for_other_dimensions_is_refused_with_the_nearest() -> None:
    register(Norm("flat", {1: Half}))
    with pytest.raises(
        InputError, match="layer '1': norm 'flat' has no layer for 2 spatial dimensions; the nearest it"
    ):
        switch(two(nn.BatchNorm2d), "flat")


@pytest.mark.usefixtures("half")
def test_unknown_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="option of 'half' 'epz' is unknown; did you mean 'eps'"):
        switch(two(nn.BatchNorm2d), "half", epz=1)
    register(Norm("none", {2: OwnBatch}))
    with pytest.raises(InputError, match="layers of 'none' take no options, got 'eps'"):
        switch(two(nn.BatchNorm2d), "none", eps=1)


@pytest.mark.parametrize(
    ("make", "names", "others"),
    [
        (Half, ("eps",), False),
        (OwnBatch, (), False),
        (nn.GroupNorm, ("num_channels", "eps", "affine", "device", "dtype", "bias"), False),
        (partial(nn.GroupNorm, 8), ("eps", "affine", "device", "dtype", "bias"), False),
        (partial(Half, eps=1), ("eps",), False),
        (lambda c, *, slope=1, **rest: None, ("slope",), True),
    ],
)
def test_options_are_those_of_the_signature(make: Any, names: tuple[str, ...], others: bool) -> None:
    found = options_of(make)
    assert set(names) <= set(found.names) | {"bias"}
    assert found.others == others
    assert "channels" not in found.names


class Others(nn.Module):
    """Takes whatever it is given."""

    def __init__(self, channels: int, **others: Any) -> None:
        super().__init__()
        self.num_features, self.others = channels, others

    def forward(self, x: Tensor) -> Tensor:
        return x


class Grouped(nn.GroupNorm):
    """Groups are an option as any other."""

    def __init__(self, num_features: int, groups: int = 4) -> None:
        super().__init__(groups, num_features)


def test_a_class_may_take_any_option() -> None:
    assert options_of(Others).others
    assert switch(two(nn.BatchNorm2d), Others, foo=1)[1].others == {"foo": 1}
    register(Norm("others", {2: Others}))
    assert switch(two(nn.BatchNorm2d), "others", foo=1)[4].others == {"foo": 1}
    # What nobody asks for it is not told.
    layer: Any = Spec("others").layer(4, affine=True, activation=None, device="cpu", dtype=torch.float64)
    assert layer.others == {}
    assert not options_of(Silent).others


def test_groups_are_an_option_where_the_name_does_not_say_them() -> None:
    register(Norm("grouped", {2: Grouped}))
    assert switch(two(nn.BatchNorm2d), "grouped", groups=2)[1].num_groups == 2
    with pytest.raises(InputError, match="option of 'gn' 'groups' is unknown"):
        switch(two(nn.BatchNorm2d), "gn", groups=2)


@pytest.mark.usefixtures("half")
def test_what_belongs_to_a_layer_is_not_switched_by_itself() -> None:
    net = two(Half)
    plan = plan_switch(net, "gn")
    assert [change.names for change in plan.changes] == [("1",), ("4",)]
    assert "not carried over: batch.weight, batch.bias" in plan.changes[0].reason
    assert "1.batch" not in str(plan)
    # Ghost batches, synchronisation and calibration reach it.
    ghost(net, 2)
    assert type(net[1].batch) is switchnorm.BatchNorm1d
    assert net[1].batch.ghost == 2
    ghost(net, None)
    assert sync(net)[1].batch.sync is True


class Silent(nn.Module):
    """Nothing tells its channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_layer_whose_channels_nothing_tells_is_left() -> None:
    register(Norm("silent", {1: Silent, 2: Silent, 3: Silent}))
    plan = plan_switch(two(Silent), "bn")
    assert plan.changes == []
    assert {left.reason for left in plan.left} == {
        "nothing tells its channels (num_features, num_channels or a weight of one dimension)"
    }


def test_whatever_a_constructor_raises_is_one_line_that_names_the_layer() -> None:
    def odd(channels: int) -> nn.Module:
        if channels == 12:
            raise KeyError("twelve\nis too much")
        return Half(channels)

    register(Norm("odd", {2: odd}))
    net = two(nn.BatchNorm2d)
    with pytest.raises(InputError, match="layer '4': norm 'odd' makes no layer of 12 channels: KeyError") as error:
        switch(net, "odd")
    assert "\n" not in str(error.value)
    assert type(net[1]) is nn.BatchNorm2d


@pytest.mark.parametrize("declared", [None, True])
@pytest.mark.parametrize("known", [True, False])
def test_batch_statistics_without_support_are_refused(declared: bool | None, known: bool) -> None:
    """Nothing is skipped: neither of a registered normalizer nor of a module that nobody knows."""
    if known:
        register(Norm("own", {2: OwnBatch}, batch_statistics=declared))
    net = nn.Sequential(nn.BatchNorm2d(3), OwnBatch(3))
    why = "'own' does not support {}" if known else "OwnBatch has batch statistics of its own"
    for use, setting, words in (
        (lambda: ghost(net, 2), "ghost", "ghost batches"),
        (lambda: sync(net), "sync", "synchronised statistics"),
        (lambda: calibrate(net, [torch.randn(2, 3, 4, 4)]), "calibrate", "calibration"),
    ):
        with pytest.raises(InputError, match=f"layer '1' cannot take {setting}: {why.format(words)}"):
            use()
    assert type(net[0]) is nn.BatchNorm2d
    assert ghost(net, None) is net
    assert sync(net, False) is net


def test_normalizers_without_batch_statistics_stay_as_they_are() -> None:
    register(Norm("own", {2: OwnBatch}, batch_statistics=False))
    net = nn.Sequential(OwnBatch(3), nn.LayerNorm(4), nn.InstanceNorm2d(3, track_running_stats=True))
    before = list(net.modules())
    ghost(net, 2), sync(net), calibrate(net, [])
    assert list(net.modules()) == before


def test_settings_that_the_new_layer_does_not_know_are_not_dropped_silently() -> None:
    with pytest.raises(InputError, match=r"layer '': it has ghost batches, which 'bcn' does not support; call ghost\("):
        switch(BatchNorm2d(4, ghost=2), "bcn")
    with pytest.raises(
        InputError, match=r"layer '': it synchronises its statistics, as 'BatchNorm2d' cannot; call sync"
    ):
        switch(nn.SyncBatchNorm(4), nn.BatchNorm2d)
    register(HALF)
    with pytest.raises(InputError, match="it ends with 'relu', which layers of 'half' do not"):
        switch(BatchNorm2d(4, activation="relu"), "half")
    assert type(switch(BatchNorm2d(4, ghost=2), "gn")) is switchnorm.GroupNorm


def test_order_and_colors_of_lists_and_figures() -> None:
    register(Norm("last", {2: Half}))
    register(Norm("first", {2: Half}, order=-1, color="#123456"))
    register(Norm("after", {2: Half}))
    assert norm_names() == ("first", "bn", "gn", "in", "ln", "sn", "ssn", "ibn", "bcn", "last", "after")
    colors = [color_of(norm.name) for norm in all_norms()]
    assert len(set(colors)) == len(colors)
    assert colors[0] == "#123456"
    assert color_of("nobody") is None
    styles = norm_styles([registered(name) for name in ("first", "bcn:4+ws", "nobody", "bcn")])
    assert [style.colour for style in styles] == ["#123456", color_of("bcn"), "#7b8494", color_of("bcn")]
    assert styles[1].dash != styles[3].dash


class TestClassesAndFunctions:
    """`switch`, `plan_switch` and `create_model` take what makes a layer of so many channels."""

    @pytest.mark.parametrize(
        ("make", "options", "kind"),
        [
            (partial(nn.GroupNorm, 4), {}, nn.GroupNorm),
            (partial(nn.GroupNorm, 4), {"eps": 1e-2}, nn.GroupNorm),
            (nn.InstanceNorm2d, {"affine": True}, nn.InstanceNorm2d),
            (lambda c: nn.GroupNorm(4, c), {}, nn.GroupNorm),
            (nn.BatchNorm2d, {}, nn.BatchNorm2d),
        ],
    )
    def test_they_are_called_with_the_options_given(self, make: Any, options: dict[str, Any], kind: type) -> None:
        net = two(nn.BatchNorm2d).double()
        nn.init.normal_(net[1].weight)
        weights = [net[1].weight, net[4].bias]
        plan = plan_switch(net, make, **options)
        assert len(plan.changes) == 2
        assert plan.apply() is net
        assert type(net[1]) is type(net[4]) is kind
        assert [net[1].weight, net[4].bias] == weights
        assert all(getattr(net[1], name) == value for name, value in options.items())
        net(torch.randn(3, 3, 8, 8).double()).sum().backward()

    def test_what_it_is_called_stands_in_the_plan(self) -> None:
        net = two(nn.BatchNorm2d)
        assert str(plan_switch(net, partial(nn.GroupNorm, 4))).startswith("switch to partial(GroupNorm, 4): 2 normal")
        assert (
            plan_switch(net, nn.InstanceNorm2d).changes[0].reason == "a normalization; not carried over: weight, bias"
        )

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda c: None, "layer '1': norm '<lambda>' must make a torch.nn.Module of 8 channels, and made NoneType"),
            (
                partial(nn.GroupNorm, 8),
                "layer '4': norm 'partial\\(GroupNorm, 8\\)' makes no layer of 12 channels: Value",
            ),
            (lambda: nn.Identity(), "layer '1': norm '<lambda>' makes no layer of 8 channels: TypeError"),
            (None, "norm None is no name; choose from bn, gn"),
            (3, "norm 3 is no name"),
            (nn.BatchNorm2d(8), "norm is a BatchNorm2d that is made already, and every layer needs its own"),
        ],
    )
    def test_what_makes_no_layer_is_refused_before_any_change(self, make: Any, message: str) -> None:
        net = two(nn.BatchNorm2d)
        before = list(net.modules())
        with pytest.raises(InputError, match=message) as error:
            switch(net, make)
        assert "\n" not in str(error.value)
        assert list(net.modules()) == before

    def test_unknown_options_are_refused_with_the_nearest(self) -> None:
        with pytest.raises(InputError, match="option of 'GroupNorm' 'epz' is unknown; did you mean 'eps'"):
            switch(two(nn.BatchNorm2d), nn.GroupNorm, epz=1)

    @pytest.mark.parametrize("network", ["cifar_resnet20", "resnet18", "digits_resnet9"])
    def test_networks_are_made_of_it(self, network: str) -> None:
        made: list[nn.Module] = []

        def make(channels: int) -> nn.Module:
            made.append(nn.GroupNorm(1, channels))
            return made[-1]

        model = switchnorm.create_model(network, norm=make, conv="ws", num_classes=3)
        found = [m for m in model.modules() if isinstance(m, nn.GroupNorm)]
        assert found
        assert all(any(m is other for other in made) for m in found)
        assert not [m for m in model.modules() if type(m) is nn.Conv2d and m.kernel_size == (3, 3)]

    def test_a_network_without_a_normalization_takes_none(self) -> None:
        for network in ("cifar_alexnet", "squeezenet1_0"):
            with pytest.raises(InputError, match="has no normalization; leave norm and conv out"):
                switchnorm.create_model(network, norm=nn.BatchNorm2d)
