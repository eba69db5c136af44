"""Ghost batches and synchronisation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from switchnorm import layers, surgery
from switchnorm.errors import InputError
from switchnorm.surgery import ghost, switch, sync
from tests.surgery.nets import OwnForward, small_net


def settings(net, name):
    return [getattr(m, name) for m in net.modules() if hasattr(m, name)]


@pytest.mark.parametrize("spec", [None, "bn", "sn", "ssn"])
def test_ghost_is_set_and_removed(spec):
    net = small_net()
    if spec:
        switch(net, spec)
    weight = net[1].weight
    assert ghost(net, 2) is net
    assert settings(net, "ghost") == [2, 2]
    assert net[1].weight is weight
    ghost(net, None)
    assert settings(net, "ghost") == [None, None]


def test_ghost_batches_are_what_each_gpu_computes():
    net = small_net()
    parts = copy.deepcopy(net)
    x = torch.randn(6, 3, 8, 8)
    out = ghost(net, 2)(x)
    torch.testing.assert_close(out, torch.cat([parts(part) for part in x.split(2)]))


def test_without_ghost_batches_torch_layers_stay():
    net = small_net()
    before = list(net.modules())
    assert list(ghost(net, None).modules()) == before
    assert list(sync(net, False).modules()) == before


def test_sync_is_set_and_removed():
    net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.SyncBatchNorm(4), nn.BatchNorm3d(4), layers.SwitchNorm3d(4))
    sync(net)
    assert settings(net, "sync") == [True, True, True]
    assert isinstance(net[1], layers.BatchNorm3d)
    sync(net, False)
    assert settings(net, "sync") == [False, False, False]
    assert isinstance(sync(nn.SyncBatchNorm(4), False), layers.BatchNorm2d)


def test_layers_without_batch_statistic_stay():
    net = nn.Sequential(nn.GroupNorm(2, 4), layers.SwitchNorm2d(4, ("instance", "layer")))
    before = list(net)
    assert list(ghost(net, 2)) == before
    assert list(sync(net)) == before
    assert net[1].ghost is None
    assert net[1].sync is False


def test_ghost_and_sync_exclude_each_other_before_any_change():
    net = nn.Sequential(nn.BatchNorm2d(4), layers.SwitchNorm2d(4, sync=True))
    with pytest.raises(InputError, match="layer '1' synchronises its statistics"):
        ghost(net, 2)
    assert type(net[0]) is nn.BatchNorm2d
    with pytest.raises(InputError, match="layer '1' synchronises"):
        ghost(nn.Sequential(nn.BatchNorm2d(4), nn.SyncBatchNorm(4)), 2)
    net[1].sync, net[1].ghost = False, 2
    with pytest.raises(InputError, match="layer '1' has ghost batches"):
        sync(net)
    assert type(net[0]) is nn.BatchNorm2d


def test_ghost_errors():
    with pytest.raises(InputError, match="ghost batches of 0 samples are impossible"):
        ghost(small_net(), 0)
    net = nn.Sequential(nn.BatchNorm2d(4), OwnForward(4))
    with pytest.raises(InputError, match="layer '1' cannot take ghost: OwnForward has a forward of its own"):
        ghost(net, 2)
    assert type(net[0]) is nn.BatchNorm2d
    ghost(net, None)


CALLS = {
    "ghost": lambda model: surgery.ghost(model, 2),
    "sync": surgery.sync,
    "fuse": surgery.fuse,
    "importance": surgery.importance,
    "harden": surgery.harden,
    "unharden": surgery.unharden,
    "set_radius": lambda model: surgery.set_radius(model, 1),
    "set_momentum": lambda model: surgery.set_momentum(model, 0.1),
    "calibrate": lambda model: surgery.calibrate(model, []),
    "freeze_statistics": surgery.freeze_statistics,
    "evaluation_mode": surgery.evaluation_mode,
    "average_statistics": surgery.average_statistics,
    "switch": lambda model: surgery.switch(model, "sn"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("model", "kind"), [(None, "NoneType"), ([nn.ReLU()], "list"), (nn.ReLU, "the class ReLU"), ({}, "dict")]
)
def test_what_is_no_model_is_refused(name, model, kind):
    with pytest.raises(InputError, match=f"^{name} takes a torch.nn.Module, got {kind}; the nearest is the model$"):
        CALLS[name](model)


def test_groups_of_processes_batches_and_networks_alike_are_looked_at():
    net = nn.Sequential(nn.BatchNorm2d(4))
    for group in (None, 3, "all"):
        with pytest.raises(InputError, match="is no process group; the nearest are True"):
            surgery.sync(net, group)
    with pytest.raises(InputError, match="batches that can be iterated over, got int"):
        surgery.calibrate(net, 3)
    with pytest.raises(InputError, match=r"calibrate takes a torch.nn.Module as like, got str"):
        surgery.calibrate(net, [], like="net")
    assert type(net[0]) is nn.BatchNorm2d


def test_scripted_parts_are_refused_by_name():
    net = nn.Sequential(torch.jit.script(nn.BatchNorm2d(4)), nn.BatchNorm2d(4))
    for act in (lambda: surgery.ghost(net, 2), lambda: surgery.calibrate(net, [torch.ones(2, 4, 3, 3)])):
        with pytest.raises(InputError, match=r"layer '0' cannot take .*: RecursiveScriptModule has batch statistics"):
            act()
