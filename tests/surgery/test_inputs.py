"""Inputs that a new layer takes because the old one did, and those that it would erase."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.surgery import plan_switch, switch

RANKS = [(2, 8), (3, 8, 5), (2, 8, 3, 4), (2, 8, 2, 3, 2)]


def reasons(plan):
    return {left.names[0]: left.reason for left in plan.left}


class Attention(nn.Module):
    """As that of diffusers: maps become sequences before the normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x), self.norm(x.flatten(2))


@pytest.mark.parametrize("spec", ["sn", "ssn", "bn", "bcn", "gn", "ln"])
def test_group_norm_took_any_rank_and_so_does_what_replaces_it(spec):
    net = switch(Attention(), spec)
    sum(y.square().sum() for y in copy.deepcopy(net)(torch.randn(2, 3, 6, 6))).backward()
    for shape in RANKS:
        assert net.norm(torch.randn(shape)).shape == shape
    again = plan_switch(net, spec)
    assert again.changes == []
    for other in ("sn", "bn"):
        assert switch(net, other).norm(torch.randn(RANKS[0])).shape == RANKS[0]


def test_any_rank_computes_what_the_class_for_it_does():
    norm = switch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)), "sn")[1]
    sequences = layers.SwitchNorm1d(8)
    x = torch.randn(3, 8, 5)
    torch.testing.assert_close(norm(x), sequences(x))
    x = torch.randn(3, 8)
    torch.testing.assert_close(norm(x), sequences(x))
    norm = switch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.SyncBatchNorm(8)), "sn")[1]
    assert norm(torch.randn(2, 8)).shape == (2, 8)


def test_other_ranks_are_still_refused_where_the_old_layer_did():
    for spec in ("sn", "bn"):
        norm = switch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), spec)[1]
        with pytest.raises(ValueError, match=r"dimensions|4D input"):
            norm(torch.randn(2, 8, 5))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("spec", ["in", "sn", "ssn", "bn", "ibn", "bcn", "gn"])
def test_instance_norm_took_samples_without_a_batch(spec, dims):
    old = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1](6)
    new = switch(copy.deepcopy(old), spec)
    x = torch.randn(6, *(6, 5, 4)[:dims])
    y = copy.deepcopy(new)(x)
    torch.testing.assert_close(y, new(x[None])[0])
    if spec == "in":
        torch.testing.assert_close(y, old(x))


class Points(nn.Module):
    """Features of points, normalized as (N, C, L), and of clouds, as (N, C)."""

    def __init__(self, norm=nn.BatchNorm1d) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(3, 8), norm(8)
        self.head, self.last = nn.Linear(8, 4), norm(4)

    def forward(self, x):
        x = self.bn(self.fc(x).transpose(1, 2)).relu()
        return self.last(self.head(x.mean(2)).relu())


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.SyncBatchNorm])
def test_sequences_after_a_linear_layer_keep_the_instance_statistic(norm):
    net = switch(Points(norm), "sn")
    assert net.bn.statistics == ("instance", "layer", "batch")
    net(torch.randn(4, 5, 3)).square().sum().backward()
    assert net.bn.mean_weight.grad[0] != 0


def test_flat_inputs_are_known_where_the_graph_shows_them():
    class Head(nn.Module):
        def __init__(self, flat) -> None:
            super().__init__()
            self.conv, self.norm, self.flat = nn.Conv2d(3, 4, 3), nn.BatchNorm1d(4), flat

        def forward(self, x):
            return self.norm(self.flat(self.conv(x)))

    for flat in (
        lambda x: x.mean((2, 3)).relu(),
        lambda x: nn.functional.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: x.mean((-1, -2)).view(-1, 4),
    ):
        assert switch(Head(flat), "sn").norm.statistics == ("layer", "batch")
    assert switch(Head(lambda x: x.flatten(2)), "sn").norm.statistics == ("instance", "layer", "batch")


ERASED = "would take each statistic over a single value, and erase the input"


@pytest.mark.parametrize("spec", ["in", "gn:64"])
def test_flat_inputs_have_no_statistic_of_single_channels(spec):
    net = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 8), nn.BatchNorm1d(8))
    plan = plan_switch(net, spec, include="1")
    assert reasons(plan)["1"] == f"{spec} {ERASED}"
    assert plan_switch(net, "gn").left == []
    assert plan_switch(net, "sn").left == []


@pytest.mark.parametrize(("spec", "left"), [("in", True), ("ibn", True), ("gn", False), ("sn", False), ("bn", False)])
def test_pooled_maps_have_no_instance_statistic(spec, left):
    net = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None).classifier
    reason = reasons(plan_switch(net, spec)).get("0.convs.4.2")
    assert reason == (f"{spec} {ERASED}" if left else None)


def test_what_the_plan_cannot_know_the_layer_refuses_in_training():
    net = switch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), "in")
    with pytest.raises(InputError, match="expected more than 1 value"):
        net(torch.randn(4, 3, 3, 3))
    net(torch.randn(4, 3, 4, 3)).sum().backward()
    net(torch.randn(0, 3, 3, 3))
    alone = layers.SwitchNorm2d(8, statistics=("instance",))
    with pytest.raises(InputError, match="expected more than 1 value"):
        alone(torch.randn(4, 8, 1, 1))
    assert layers.SwitchNorm2d(8)(torch.randn(4, 8, 1, 1)).isfinite().all()


class AnyRank(nn.BatchNorm2d):
    def _check_input_dim(self, x) -> None:
        pass


class UpTo4(nn.BatchNorm2d):
    def _check_input_dim(self, x) -> None:
        if x.dim() > 4:
            raise ValueError


def test_who_checks_ranks_by_itself_is_asked():
    x = torch.randn(4, 8, 5)
    for cls in (AnyRank, UpTo4):
        new = switch(cls(8), "sn")
        torch.testing.assert_close(new(x), switch(nn.BatchNorm1d(8), "sn")(x))
        new(x[..., None])
    switch(AnyRank(8), "sn")(x[..., None, None])
    with pytest.raises(InputError, match="takes 2 or 3 or 4 dimensions"):
        switch(UpTo4(8), "sn")(x[..., None, None])
