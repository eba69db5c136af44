"""Loops of others that look for Batch Norm alone say what they pass over."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from switchnorm import calibrate, sync
from switchnorm.layers import BatchChannelNorm2d, BatchNorm2d, InstanceBatchNorm2d, SparseSwitchNorm2d, SwitchNorm2d


@pytest.mark.parametrize("norm", [SwitchNorm2d, SparseSwitchNorm2d, InstanceBatchNorm2d, BatchChannelNorm2d])
def test_update_bn_says_what_it_passes_over(norm: type[nn.Module]) -> None:
    averaged = AveragedModel(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), norm(8))))
    batches = [torch.randn(4, 3, 6, 5) for _ in range(2)]
    with pytest.warns(UserWarning, match=rf"{norm.__name__} as they are; call switchnorm.calibrate\(model, batches\)"):
        update_bn(batches, averaged)
    layer = averaged.module[1][1]
    assert layer.num_batches_tracked == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(averaged, batches)
    assert layer.num_batches_tracked == 2


def test_lightning_says_it_too() -> None:
    with pytest.warns(UserWarning, match="SwitchNorm2d as they are"):
        assert not StochasticWeightAveraging.pl_module_contains_batch_norm(nn.Sequential(SwitchNorm2d(8)))


def test_converters_say_that_they_do_not_synchronise_or_freeze() -> None:
    model = nn.Sequential(nn.Sequential(SwitchNorm2d(8)), nn.BatchNorm2d(8))
    for convert in (nn.SyncBatchNorm.convert_sync_batchnorm, timm.layers.convert_sync_batchnorm):
        with pytest.warns(UserWarning, match=r"does not synchronise SwitchNorm2d; call switchnorm.sync\(model\)"):
            convert(model)
    with pytest.warns(UserWarning, match="does not freeze SwitchNorm2d; set requires_grad_"):
        timm.layers.freeze_batch_norm_2d(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.SyncBatchNorm.convert_sync_batchnorm(sync(nn.Sequential(SwitchNorm2d(8))))
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(SwitchNorm2d(8, ("layer", "instance"))))


def test_batch_norm_is_updated_and_other_loops_are_silent() -> None:
    batches = [torch.randn(4, 8, 6, 5) for _ in range(2)]
    model = nn.Sequential(BatchNorm2d(8, ghost=2))
    other = nn.Sequential(SwitchNorm2d(8), SwitchNorm2d(8, track_running_stats=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        update_bn(batches, model)
        update_bn(batches, other[1:])
        assert len([*other.modules()]) == len(dict(other.named_modules())) == 3
        assert len([*other.named_parameters()]) == 8
    torch.testing.assert_close(model[0].running_mean, torch.cat(batches).mean((0, 2, 3)))
