"""The report of a plan, and choosing layers."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from switchnorm.errors import InputError
from switchnorm.surgery import Change, plan_switch
from tests.surgery.nets import small_net


def changed(plan):
    return [change.names[0] for change in plan.changes]


def test_plan_changes_nothing_and_reads_as_a_table():
    net = small_net()
    before = list(net.modules())
    plan = plan_switch(net, "gn+ws", exclude="4")
    assert list(net.modules()) == before
    assert plan.changes[1] == Change(("1",), "BatchNorm2d(8)", "GroupNorm(4, 8)", "a normalization")
    assert str(plan).splitlines() == [
        "switch to gn+ws: 1 normalization and 2 convolutions change, 1 layer left as before",
        "connections found by tracing",
        "calibrate(model, batches, like=before) brings layers whose function changes nearer",
        "",
        "layer  before              after                 function                       reason",
        "0      Conv2d(3, 8, 3x3)   WSConv2d(3, 8, 3x3)                                  feeds 1",
        "1      BatchNorm2d(8)      GroupNorm(4, 8)       changes: standardized weights  a normalization",
        "3      Conv2d(8, 12, 3x3)  WSConv2d(8, 12, 3x3)                                 feeds 4",
        "",
        "layer left  is               reason",
        "4           BatchNorm2d(12)  excluded",
    ]
    assert plan.apply() is net


def test_plan_of_sn_tells_statistics_and_dimensions():
    (change, _) = plan_switch(small_net(), "sn").changes
    assert change.after == "SwitchNorm2d(8, instance+layer+batch)"
    assert change.reason == "2d by its class"
    (change,) = plan_switch(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), "sn").changes
    assert change.reason == "flat after 0"


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ("layer1.*", None, ["layer1.0.bn1", "layer1.0.bn2", "layer1.1.bn1", "layer1.1.bn2"]),
        (["bn1", "layer4.1.bn?"], None, ["bn1", "layer4.1.bn1", "layer4.1.bn2"]),
        ("layer1.*", ["*.bn2"], ["layer1.0.bn1", "layer1.1.bn1"]),
        (
            lambda name, module: module.num_features == 64 and name.endswith("bn1"),
            "bn1",
            ["layer1.0.bn1", "layer1.1.bn1"],
        ),
        (lambda name, module: False, None, []),
    ],
)
def test_include_and_exclude(include, exclude, expected):
    plan = plan_switch(torchvision.models.resnet18(weights=None), "sn", include=include, exclude=exclude)
    assert changed(plan) == expected


def test_selection_applies_to_convolutions_too():
    plan = plan_switch(small_net(), "gn+ws", include=["0", "4"])
    assert changed(plan) == ["0", "4"]
    assert {left.reason for left in plan.left} == {"not included"}


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_pattern_that_matches_nothing(argument):
    net = torchvision.models.resnet18(weights=None)
    message = f"{argument} 'layr1.0.bn1' matches no normalization or convolution; the nearest layer is 'layer1.0.bn1'"
    with pytest.raises(InputError, match=message):
        plan_switch(net, "sn", **{argument: ["layer2.*", "layr1.0.bn1"]})
    with pytest.raises(InputError, match="the model has none"):
        plan_switch(nn.Linear(2, 2), "sn", **{argument: "fc"})


def test_one_name_of_a_tied_layer_is_enough():
    norm = nn.BatchNorm2d(4)
    net = nn.ModuleDict({"a": norm, "b": norm})
    assert changed(plan_switch(net, "gn", include="b")) == ["a"]
    assert changed(plan_switch(net, "gn", exclude="b")) == []


def test_a_plan_is_carried_out_once_and_on_the_model_that_it_was_made_of():
    net = small_net()
    net(torch.randn(4, 3, 8, 8))
    first, stale = plan_switch(net, "sn+ws"), plan_switch(net, "gn")
    first.apply()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for plan in (first, stale):
        with pytest.raises(InputError, match=r"carried out, or the model has changed since .*; make a new plan"):
            plan.apply()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("choice", [3, [3], nn.BatchNorm2d, b"1"])
def test_what_is_no_choice_is_refused(choice):
    with pytest.raises(InputError, match="is no glob over names, no sequence of globs and no predicate"):
        plan_switch(small_net(), "sn", include=choice)
