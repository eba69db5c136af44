"""Folding a convolution and one normalization, of every kind and for every number of dimensions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import switchnorm
from switchnorm.layers import all_norms
from switchnorm.surgery import calibrate, fold, plan_fold, switch
from tests.surgery.folding.folded import assert_same, chosen, trained

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
BEFORE = "part of the layer before"


def net(norm, dims=2):
    return trained(nn.Sequential(CONVS[dims](3, 8, 3, padding=1), norm(8), nn.Identity()))


@pytest.mark.parametrize("dims", CONVS)
@pytest.mark.parametrize("norm", [norm.name for norm in all_norms()])
def test_registered_normalizers(norm, dims):
    torch.manual_seed(0)
    model = trained(switch(net(NORMS[dims], dims), norm))
    plan, _ = assert_same(model, torch.randn(2, 3, *(5, 4, 3)[:dims]))
    assert not plan.left


@pytest.mark.parametrize(
    "moments", [(a, b) for a in ("instance", "layer", "batch") for b in ("instance", "layer", "batch")]
)
@pytest.mark.parametrize("dims", CONVS)
def test_choices(moments, dims):
    torch.manual_seed(0)
    shape = (5, 4, 3)[:dims]
    x = 3 * torch.randn(2, 3, *shape)
    model = chosen(trained(switch(net(NORMS[dims], dims), "ssn")), lambda _: moments)
    calibrate(model, [x])
    for size in (None, shape) if dims == 2 else (None,):
        plan, _ = assert_same(model, x, size=size)
        assert not plan.left


OTHERS = {
    "without scale": lambda c: nn.BatchNorm2d(c, affine=False),
    "synchronised": nn.SyncBatchNorm,
    "frozen": FrozenBatchNorm2d,
    "tracked instance": lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True),
    "with ReLU": lambda c: switchnorm.BatchNorm2d(c, activation="relu", ghost=2),
    "sn on batch": lambda c: switchnorm.SwitchNorm2d(c, statistics=("batch",)),
    "ibn without instance": lambda c: switchnorm.InstanceBatchNorm2d(c, instance_channels=0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_constants_of_other_layers(name):
    torch.manual_seed(0)
    plan, folded = assert_same(net(OTHERS[name]), torch.randn(2, 3, 5, 4))
    assert plan.counts == {BEFORE: 1}
    assert type(folded[1]) is (nn.ReLU if name == "with ReLU" else nn.Identity)


MIXTURES = {
    "groups": lambda c: switchnorm.SwitchNorm2d(c, statistics=("group:2", "instance", "batch")),
    "with ReLU": lambda c: switchnorm.SwitchNorm2d(c, activation="relu"),
    "without scale": lambda c: switchnorm.SwitchNorm2d(c, affine=False),
    "group norm without scale": lambda c: switchnorm.GroupNorm(2, c, affine=False),
    "untracked and no batch": lambda c: switchnorm.SwitchNorm2d(c, statistics=("instance", "layer")),
    "bcn with ReLU": lambda c: switchnorm.BatchChannelNorm2d(c, activation="relu"),
    "bcn without scales": lambda c: switchnorm.BatchChannelNorm2d(c, affine=False),
    "all instance": lambda c: switchnorm.InstanceBatchNorm2d(c, instance_channels=c),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_statistics_of_the_input(name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4)
    plan, _ = assert_same(net(MIXTURES[name]), x)
    assert len(plan.changes) == 1
    alone = trained(nn.Sequential(nn.ReLU(), MIXTURES[name](3) if "group" not in name else MIXTURES[name](4)))
    assert_same(alone, torch.randn(2, 4, 5, 4) if "group" in name else x)


@pytest.mark.parametrize("norm", ["bn", "sn", "ssn", "ln", "ibn", "bcn"])
def test_maps_of_a_single_place(norm):
    torch.manual_seed(0)
    model = trained(switch(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)), norm))
    x = torch.randn(3, 3, 1, 1)
    with torch.no_grad():
        for size in (None, 1):
            # An instance statistic of one value is 0 but for rounding, which eps magnifies 300 times.
            assert torch.allclose(plan_fold(model, size).apply()(x), model(x), 1e-4, 1e-4)


@pytest.mark.parametrize("norm", ["bn", "sn", "ssn", "gn", "ln", "bcn"])
def test_flat_inputs(norm):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 2, 2)
    model = trained(switch(nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Identity()), norm))
    plan, _ = assert_same(model, x)
    assert len(plan.changes) == 1
    # Nothing shows whether this one sees rows or maps, and it takes both.
    assert_same(trained(switch(nn.Sequential(nn.BatchNorm1d(12)), norm)), torch.randn(4, 12), torch.randn(4, 12, 3))


def test_features_that_come_last_are_not_channels():
    torch.manual_seed(0)
    plan, _ = assert_same(trained(nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8))), torch.randn(2, 8, 5))
    assert "may have its features last" in plan.left[0].reason


def test_a_sample_without_a_batch():
    torch.manual_seed(0)
    for norm in (nn.InstanceNorm2d(8), nn.InstanceNorm2d(8, affine=True, track_running_stats=True)):
        assert_same(trained(nn.Sequential(nn.Conv2d(3, 8, 1), norm)), torch.randn(3, 5, 4), torch.randn(2, 3, 5, 4))


def test_evaluation_by_the_batch_stays():
    torch.manual_seed(0)
    for norm in (nn.BatchNorm2d, switchnorm.SwitchNorm2d, switchnorm.InstanceBatchNorm2d):
        plan, _ = assert_same(net(lambda c, norm=norm: norm(c, track_running_stats=False)), torch.randn(2, 3, 5, 4))
        assert [left.reason for left in plan.left] == [
            "it keeps no running statistics, and normalizes by those of its own batch in evaluation too"
        ]


def test_a_residual_and_an_activation_are_part_of_the_call():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
            self.norm, self.end = switchnorm.SwitchNorm2d(3), switchnorm.BatchNorm2d(3)

        def forward(self, x):
            x = self.norm(self.first(x), x, "relu")
            return self.end(self.second(x), residual=x)

    torch.manual_seed(0)
    plan, _ = assert_same(trained(Residual()), torch.randn(2, 3, 5, 4))
    assert plan.counts[BEFORE] == 1
    assert not plan.left


def test_offsets_cost_no_digits():
    torch.manual_seed(0)
    model = chosen(trained(switch(net(nn.BatchNorm2d), "ssn")), lambda _: ("layer", "layer"))
    with torch.no_grad():
        model[0].bias.fill_(300)
        model[1].running_mean.fill_(300)
        x = torch.randn(2, 3, 32, 32)
        found, exact = fold(model)(x), copy.deepcopy(model).double()(x.double())
    # Eager mode, which is given numbers around 300, is 50 times as far.
    assert (found - exact).abs().max() <= 5e-7 * exact.abs().max()
