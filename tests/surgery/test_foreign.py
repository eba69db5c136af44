"""Layers of other libraries that end with an activation, and what compilers make of switched models."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, GroupNorm, GroupNorm1, GroupNormAct
from timm.layers.norm_act import FrozenBatchNormAct2d, SyncBatchNormAct
from torch import nn

from switchnorm import layers
from switchnorm.surgery import ghost, plan_switch, switch
from tests.surgery.nets import cancel


def norm_act(cls, **options):
    norm = cls(8, act_layer=nn.SiLU, **options)
    nn.init.uniform_(norm.weight, 0.5, 2)
    return norm


@pytest.mark.parametrize(
    ("old", "spec"),
    [
        (norm_act(BatchNormAct2d), "bn"),
        (norm_act(GroupNormAct, num_groups=4), "gn:4"),
        (norm_act(FrozenBatchNormAct2d).eval(), "bn"),
        (norm_act(BatchNormAct2d, drop_layer=lambda: nn.Threshold(0.0, 0.3)), "bn"),
    ],
)
def test_activation_and_drop_are_still_applied(old, spec):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), copy.deepcopy(old))
    x = torch.randn(2, 3, 6, 6)
    expected = copy.deepcopy(net)(x)
    act = net[1].act
    switch(net, spec)
    assert isinstance(net[1], type(layers.Spec.parse(spec).layer(8)))
    assert net[1].act is act
    torch.testing.assert_close(copy.deepcopy(net)(x), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(net))(x), expected)


def test_activation_survives_several_switches_once():
    net = nn.Sequential(norm_act(BatchNormAct2d))
    x = torch.randn(4, 8, 3, 3)
    expected = copy.deepcopy(net)(x)
    for spec in ("sn", "gn", "ssn", "bn"):
        switch(net, spec)
    net[0].reset_running_stats()
    torch.testing.assert_close(net(x), expected)


def test_activation_comes_before_the_hooks_of_others():
    net = nn.Sequential(norm_act(BatchNormAct2d))
    handle = net[0].register_forward_hook(cancel)
    switch(net, "sn")
    x = torch.randn(2, 8, 3, 3)
    assert not net(x).any()
    handle.remove()
    assert net(x).any()


def test_synchronised_norm_act():
    norm = SyncBatchNormAct(8)
    norm.drop, norm.act = nn.Identity(), nn.ReLU()
    new = switch(nn.Sequential(nn.Conv2d(3, 8, 3), norm), "sn")[1]
    assert new.sync is True
    assert (new(torch.randn(2, 8, 3, 3)) >= 0).all()


def test_ghost_keeps_the_activation():
    net = ghost(nn.Sequential(norm_act(BatchNormAct2d)), 2)
    expected = norm_act(BatchNormAct2d)
    expected.load_state_dict(net[0].state_dict())
    x = torch.randn(4, 8, 3, 3)
    torch.testing.assert_close(net(x), torch.cat([expected(part) for part in x.split(2)]))


@pytest.mark.parametrize("cls", [GroupNorm, GroupNorm1])
def test_a_forward_that_computes_what_its_base_does_is_no_reason_to_stay(cls):
    norm = cls(8, 4) if cls is GroupNorm else cls(8)
    nn.init.uniform_(norm.weight, 0.5, 2)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm)
    x = torch.randn(2, 3, 6, 6)
    expected = net(x)
    plan = plan_switch(net, f"gn:{norm.num_groups}")
    assert [change.function for change in plan.changes] == ["kept"]
    torch.testing.assert_close(plan.apply()(x), expected)
    with torch.device("meta"):
        assert len(plan_switch(timm.create_model("resnet50_gn"), "sn").changes) == 53


def test_one_that_computes_something_else_stays():
    class Shifted(nn.GroupNorm):
        def forward(self, x):
            return super().forward(x) + 1e-3

    class TrainingAlone(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) * (1 if self.training else 2)

    for norm in (Shifted(2, 8), TrainingAlone(8)):
        before = copy.deepcopy(norm.state_dict())
        (left,) = plan_switch(nn.Sequential(norm), "sn").left
        assert left.reason.endswith("has a forward of its own")
        assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnetv2_50", "test_resnet"])
def test_timm_network_to_bn_computes_the_same(name):
    old = timm.create_model(name, pretrained=False).eval()
    new = switch(copy.deepcopy(old), "bn")
    assert list(new.state_dict()) == list(old.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(new(x), old(x))


def test_plan_of_timm_network_is_by_structure():
    plan = plan_switch(timm.create_model("resnetv2_50", pretrained=False), "sn+ws")
    assert [left.names for left in plan.left] == [("head.fc",)]


@pytest.mark.parametrize("spec", ["bn", "sn", "ssn+ws"])
def test_compile_and_export(spec):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm_act(BatchNormAct2d), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))
    switch(net, spec).eval()
    x = torch.randn(2, 3, 6, 6)
    expected = net(x)
    torch.testing.assert_close(torch.compile(net, backend="aot_eager", fullgraph=True)(x), expected)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), expected)


def test_compiled_training_step():
    net = switch(nn.Sequential(norm_act(BatchNormAct2d)), "sn")
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    compiled(torch.randn(2, 8, 4, 4)).sum().backward()
    assert int(net[0].num_batches_tracked) == 1
    assert net[0].mean_weight.grad is not None
