"""Calibration of detectors: heads see proposals as in evaluation, and those that see nothing keep what they had."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from switchnorm import calibrate, ghost, plan_switch, switch
from switchnorm.models import create_model
from switchnorm.surgery import CalibrationWarning
from tests.surgery.detectors import mask_rcnn, pictures


def batches(count: int = 3) -> list[Any]:
    return [pictures(2, seed=seed) for seed in range(count)]


def watched(model: nn.Module, layer: nn.Module, given: list[Any]) -> list[Tensor]:
    """What a layer sees of batches in evaluation, but for norms that normalize by each batch."""
    seen: list[Tensor] = []
    twin = copy.deepcopy(model).eval()
    for module in twin.modules():
        if hasattr(module, "running_mean"):
            module.training = True
    of_twin = dict(twin.named_modules())[next(name for name, each in model.named_modules() if each is layer)]
    of_twin.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        for images, _ in given:
            twin(images)
    return seen


@pytest.mark.parametrize("norm", [None, "bn", "sn"])
def test_heads_are_calibrated_over_the_proposals_of_evaluation(norm: str | None) -> None:
    model = mask_rcnn() if norm is None else switch(mask_rcnn(), norm)
    model.roi_heads.score_thresh = 0.0
    for name in ("box_head", "mask_head"):
        twin = copy.deepcopy(model)
        layer = twin.get_submodule(f"roi_heads.{name}.0.1")
        given = batches()
        seen = [x for x in watched(twin, layer, given) if len(x)]
        calibrate(twin, given)
        mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
        torch.testing.assert_close(layer.running_mean, mean, rtol=0, atol=1e-12)
        assert int(layer.num_batches_tracked) == len(seen) == 3
    assert model.training


def test_heads_may_be_calibrated_over_the_regions_of_training() -> None:
    model = switch(mask_rcnn(), "sn").eval()
    given = batches()
    seen: list[Tensor] = []
    twin = copy.deepcopy(model).train()
    twin.roi_heads.mask_head[0][1].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    for batch in given:
        twin(*batch)
    calibrate(model, given, forward=lambda model, batch: model.train()(*batch))
    assert not any(module.training for module in model.modules())
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(model.roi_heads.mask_head[0][1].running_mean, mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", [None, "bn", "sn"])
def test_heads_that_see_nothing_keep_what_they_had_and_it_is_said(norm: str | None) -> None:
    model = mask_rcnn() if norm is None else switch(mask_rcnn(), norm)
    model.roi_heads.score_thresh = 1.0
    kept = {name: value.clone().fill_(7) for name, value in model.named_buffers() if "mask_head" in name}
    model.load_state_dict(kept, strict=False)
    with pytest.warns(
        CalibrationWarning, match="2 layers saw no samples, 'roi_heads.mask_head.0.1' among them; running"
    ):
        calibrate(model, batches())
    found = dict(model.named_buffers())
    torch.testing.assert_close({name: found[name] for name in kept}, kept, rtol=0, atol=0)
    assert int(found["roi_heads.box_head.0.1.num_batches_tracked"]) == 3


@pytest.mark.parametrize("norm", [None, "bn", "sn"])
def test_batches_without_regions_do_not_count(norm: str | None) -> None:
    layer = nn.Sequential(nn.BatchNorm2d(3)) if norm is None else switch(nn.Sequential(nn.BatchNorm2d(3)), norm)
    x = torch.randn(5, 3, 4, 4) + 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(layer, [x[:0], x, x[:0], x])
    torch.testing.assert_close(layer[0].running_mean, x.mean((0, 2, 3)))
    assert int(layer[0].num_batches_tracked) == 2


def test_calibration_holds_ghost_batches_by_picture_and_takes_our_detectors_with_their_sizes() -> None:
    torch.manual_seed(0)
    model = create_model("resnet18_fpn16+mask_4conv1fc", norm="sn", num_classes=2).double()
    model.score_threshold = 0.0
    given = [
        (torch.stack(images), [t | {"size": torch.tensor([64, 50])} for t in targets]) for images, targets in batches()
    ]
    whole, parted = copy.deepcopy(model), ghost(copy.deepcopy(model), 1)
    seen: list[Any] = []
    parted.box.pool.register_forward_hook(lambda _, args, __: seen.append(args[1]))
    for each in (whole, parted):
        calibrate(each, given)
    assert all(float(boxes[:, 2].max()) <= 50 for call in seen for boxes in call)
    assert not torch.allclose(whole.box.convs[1].running_var, parted.box.convs[1].running_var)
    assert torch.isfinite(parted.box.convs[1].running_var).all()


def test_frozen_norms_of_a_detector_train_where_their_convolutions_do() -> None:
    frozen = torchvision.ops.FrozenBatchNorm2d
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=3, norm_layer=frozen)
    model = MaskRCNN(body, num_classes=3)
    plan = plan_switch(model, "sn")
    said = {change.names[0]: change.reason for change in plan.changes}
    assert said["backbone.body.layer4.1.bn2"].endswith("scale and shift train as backbone.body.layer4.1.conv2 does")
    assert said["backbone.body.bn1"].endswith("scale and shift stay constant as backbone.body.conv1 does")
    plan.apply()
    for name, layer in model.backbone.body.named_modules():
        if hasattr(layer, "running_mean"):
            trains = not name.startswith(("bn1", "layer1"))
            assert (layer.weight.requires_grad, layer.bias.requires_grad) == (trains, trains), name
