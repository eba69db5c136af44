"""What a published row trained with is what its recipe says: values read from the published code, in its own terms."""

from __future__ import annotations

import pytest
import torch

from switchnorm.config.schema import Config
from switchnorm.layers import has_batch_statistics
from switchnorm.models import create_model
from switchnorm.recipes import recipes
from switchnorm.surgery import freeze
from tests.recipes.configs import config_of

IMAGENET = [name for name in recipes() if name.startswith("imagenet/")]
ADE20K = [name for name in recipes() if name.startswith("ade20k/")]


def momenta(config: Config) -> set[float]:
    """Of the layers that keep running statistics."""
    with torch.device("meta"):
        model = create_model(
            config.model.name,
            norm=config.model.norm,
            norms=config.model.norms,
            conv=config.model.conv,
            **config.model.options,
        )
    return {round(layer.momentum, 6) for layer in model.modules() if has_batch_statistics(layer)}


@pytest.mark.parametrize(
    ("start", "kept"),
    [
        # The share of the old statistics: switchable_norm.py, sparse_switchable_norm.py, lib/nn/modules/batchnorm.py.
        ("imagenet/resnetv1sn", 0.9),
        ("imagenet/resnetv2sn", 0.9),
        ("imagenet/resnetv1ssn", 0.997),
        ("ade20k/resnet50_dilated8_c1_sn", 0.997),
        ("ade20k/resnet50_dilated8_c1_syncbn", 0.999),
        ("coco/faster_resnet50_c4_sn", 0.997),
        ("coco/mask_resnet50_fpn_scratch_sn", 0.997),
        ("imagenet/resnet18", 0.9),
        ("imagenet/resnext50", 0.9),
        ("cifar10/resnet110", 0.9),
    ],
)
def test_running_statistics_move_as_there(start, kept):
    rows = [name for name in recipes() if name.startswith(start) and not name.endswith("sn50_8x1")]
    assert rows
    for name in rows:
        assert momenta(config_of(name)) == {round(1 - kept, 6)}, name


@pytest.mark.parametrize(
    "name", ["imagenet/resnetv1sn50_8x1", "coco/faster_resnet50_fpn_sn_8x1", "coco/mask_resnet50_fpn_sn_8x1"]
)
def test_without_a_batch_statistic_nothing_runs(name):
    assert momenta(config_of(name)) == set()


@pytest.mark.parametrize("name", ADE20K)
def test_ade20k_sees_the_published_colours_and_sizes(name):
    config = config_of(name)
    expected = {
        "colors": "published",  # transforms.Normalize(mean=[102.9801, 115.9465, 122.7717], std=[1, 1, 1]) of BGR
        "test_resize": "plain",  # cv2.resize
        "short_sides": [300, 375, 450, 525, 600],
        "test_sides": [450],
        "longest": 1000,
        "multiple": 8,
        "label_stride": 8,
        "flip": True,
    }
    assert {key: config.data[key] for key in expected} == expected
    assert config.model.options["published_start"] is True


@pytest.mark.parametrize("name", [name for name in IMAGENET if "sn50" in name or "sn101" in name])
def test_imagenet_has_the_published_light_and_crops(name):
    config = config_of(name)
    sparse = "ssn" in name
    assert config.data["lighting"] == "published"
    assert config.data["color_jitter"] == (0.4 if sparse else 0.0)
    assert config.data["plain_epochs"] == 5
    assert config.data["plain_crop"] == ("random" if sparse else "centre")
    assert config.optimizer.decay_logits is not sparse, "SN's optimizer has all parameters, SSN's two groups"
    assert config.schedule.warmup_lr == (0.0 if "cosine" in name else None)


@pytest.mark.parametrize("name", [name for name in IMAGENET if not ("sn50" in name or "sn101" in name)])
def test_the_toolbox_crops_and_mirrors_alone(name):
    data = config_of(name).data
    assert (data["lighting"], data["color_jitter"], data["plain_epochs"]) == (0, 0, 0)


@pytest.mark.parametrize(
    "name", [name for name in recipes() if name.startswith("cifar100/") and "resnet20" not in name]
)
def test_cifar100_is_normalized_by_cifar10s_numbers(name):
    assert config_of(name).data["normalization"] == "cifar10"


COCO = [name for name in recipes() if name.startswith("coco/")]


@pytest.mark.parametrize("name", COCO)
def test_coco_is_trained_by_the_published_steps(name):
    """SOLVER.* of configs/*.yaml and of lib/core/config.py; maskrcnn-benchmark's for GN + WS."""
    config = config_of(name)
    train, schedule = config.train, config.schedule
    scratch, half = "scratch" in name, "faster" in name and "gnws" in name
    schedules = 3 if scratch else 1 if half else 2
    assert train.epochs * train.epoch_steps * train.batch_size == schedules * 90_000 * 16
    drops = [210 / 270, 250 / 270] if scratch else [2 / 3, 8 / 9]
    assert [epoch / train.epochs for epoch in schedule.milestones] == pytest.approx(drops)
    assert config.optimizer.lr == pytest.approx(0.02 * train.batch_size / 16)
    assert (schedule.name, schedule.warmup_steps, schedule.gamma) == ("step", 500, 0.1)
    assert schedule.warmup_from == pytest.approx(1 / 3)
    assert (config.optimizer.momentum, config.optimizer.nesterov) == (0.9, False)
    assert (config.optimizer.bias_lr_factor, config.optimizer.weight_decay) == (2, 1e-4)
    assert (config.data["short_sides"], config.data["longest"], config.data["test_side"]) == ([800], 1333, 800)
    fewer = "c4" in name and not name.endswith("frozen")
    assert config.model.options.get("rois_per_image", 512) == (256 if fewer else 512)
    assert (config.model.options["boxes"], config.model.options["box_beta"]) == ("published", 1)


@pytest.mark.parametrize("name", COCO)
def test_coco_has_the_colours_of_the_weights_that_it_starts_with(name):
    """PIXEL_MEANS and PIXEL_VARS: where SN's own classifiers are the body ImageNet's, everywhere else Caffe's."""
    model = config_of(name).model
    like_sn = {model.norm, *model.norms.values()} <= {"sn", "ssn"} or "syncbn" in name
    assert config_of(name).data["colors"] == ("rgb" if like_sn and "scratch" not in name else "published")


@pytest.mark.parametrize("name", COCO)
def test_nothing_decays_in_coco_but_weights(name):
    """WEIGHT_DECAY_SN, WEIGHT_DECAY_GN, BIAS_WEIGHT_DECAY; in maskrcnn-benchmark the scale of GN decays too."""
    optimizer = config_of(name).optimizer
    scale = "gnws" in name
    assert optimizer.decay_norms is scale
    assert [(group.match, group.weight_decay) for group in optimizer.groups] == ([("*.bias", 0.0)] if scale else [])


@pytest.mark.parametrize("name", [name for name in COCO if "frozen" in name])
def test_frozen_bn_of_coco_is_all_of_the_body_s(name):
    config = config_of(name)
    with torch.device("meta"):
        model = create_model(config.model.name, norm=config.model.norm, norms=config.model.norms)
    freeze(model, config.train.freeze)
    trained = [name for name, layer in model.named_modules() if has_batch_statistics(layer) and layer.training]
    assert not [name for name in trained if name.startswith(("body.", "box.layer4"))]
    assert bool(trained) == name.endswith("sn_heads")
    parameters = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any(name.startswith(("body.layer4", "box.layer4")) for name in parameters)
    assert not any(name.startswith(("body.stem", "body.layer1")) for name in parameters)
