"""Ghost batches, synchronisation, calibration."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.surgery import calibrate, ghost, switch, sync
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


@pytest.mark.parametrize("spec", [None, "bn", "sn"])
def test_calibrate_averages_over_batches(spec):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, momentum=0.3)
    norm.running_mean.fill_(7)
    net = nn.Sequential(norm if spec is None else switch(norm, spec), nn.Dropout(0.5)).eval()
    batches = [torch.randn(4, 3, 5, 5) + shift for shift in range(3)]
    calibrate(net, batches)
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(net[0].running_mean, expected)
    assert int(net[0].num_batches_tracked) == 3
    assert net[0].momentum == 0.3
    assert not any(m.training for m in net.modules())


def test_calibrate_reads_labelled_batches_and_calls_forward():
    net, reference = small_net(), None
    batches = [torch.randn(4, 3, 8, 8) for _ in range(2)]
    for given, forward in (
        (iter(batches), None),
        ([(x, torch.zeros(4)) for x in batches], None),
        ([[x] for x in batches], None),
        ([{"image": x} for x in batches], lambda model, batch: model(batch["image"])),
    ):
        calibrate(net, given, forward=forward)
        reference = net[4].running_var.clone() if reference is None else reference
        torch.testing.assert_close(net[4].running_var, reference)


def test_calibrate_runs_only_norms_in_training_mode_and_restores_modes():
    class Mode(nn.Module):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return x

    net = nn.Sequential(Mode(), nn.BatchNorm2d(3), Mode(), nn.InstanceNorm2d(3, track_running_stats=True))
    net[1].eval()
    calibrate(net, [torch.randn(2, 3, 4, 4)])
    assert [m.training for m in net] == [True, False, True, True]
    assert torch.equal(net[3].running_mean, torch.zeros(3))


def test_calibrate_without_batches_keeps_statistics():
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(InputError, match="at least one batch"):
        calibrate(net, [])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_calibrate_restores_everything_on_error():
    net = small_net()
    net[1].eval()
    before = copy.deepcopy(net.state_dict())

    def batches():
        yield torch.randn(4, 3, 8, 8)
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        calibrate(net, batches())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net[1].training, net[4].training, net[4].momentum) == (False, True, 0.1)


def test_calibrate_model_without_running_statistics():
    calibrate(nn.Sequential(nn.GroupNorm(2, 4)), [])
