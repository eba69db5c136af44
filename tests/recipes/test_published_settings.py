"""What a published row trained with is what its recipe says: values read from the published code, in its own terms."""

from __future__ import annotations

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.layers import has_batch_statistics
from switchnorm.models import create_model
from switchnorm.recipes import find_recipe, recipes

IMAGENET = [name for name in recipes() if name.startswith("imagenet/")]
ADE20K = [name for name in recipes() if name.startswith("ade20k/")]


def config_of(name: str) -> Config:
    return read_config(find_recipe(name))


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


def test_without_a_batch_statistic_nothing_runs():
    assert momenta(config_of("imagenet/resnetv1sn50_8x1")) == set()


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
