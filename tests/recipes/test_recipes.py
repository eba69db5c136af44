"""The shipped recipes: each says what is known of it, names what exists, and takes its first step."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from switchnorm.models import create_model
from switchnorm.recipes import find_recipe, recipes
from switchnorm.training import dry_run
from switchnorm.training.config import ClaimConfig, Config
from switchnorm.training.recipe import read_config
from switchnorm.weights import PUBLISHED

#: Recipes of this library's own, which repeat no published row.
OWN = {"cifar10/geometry", "cifar10/geometry_cpu", "cifar10/resnet20", "cifar100/resnet20", "digits/resnet9"}
CLAIMING = sorted(set(recipes()) - OWN)
IMAGENET = [name for name in recipes() if name.startswith("imagenet/")]
CIFAR100 = [name for name in recipes() if name.startswith("cifar100/")]

#: Errors in %, and top-1 and top-5 accuracies in %, that a sane claim is between.
ERRORS = {"cifar10": (2, 25), "cifar100": (15, 60)}
TOP1, TOP5 = (65, 80), (88, 97)

#: Millions of parameters that the README.md of bearpaw/pytorch-classification states; on CIFAR, for 10 classes.
MILLIONS = {
    "cifar10/alexnet": 2.47,
    "cifar10/vgg19_bn": 20.04,
    "cifar10/resnet164_bottleneck": 1.70,
    "cifar10/preresnet164_bottleneck": 1.70,
    "cifar10/wrn28_10": 36.48,
    "cifar10/resnext29_8x64": 34.43,
    "cifar10/resnext29_16x64": 68.16,
    "cifar10/densenet100_12": 0.77,
    "cifar10/densenet190_40": 25.62,
    "imagenet/resnet18": 11.69,
    "imagenet/resnext50_32x4d": 25.03,
}

#: Samples per GPU of the step that is taken here: with 32 of ImageNet's size it would take a core most of a minute.
FEW = 2


@functools.cache
def config_of(name: str, *flags: str) -> Config:
    return read_config(find_recipe(name), flags)


@pytest.mark.parametrize("name", recipes())
def test_it_names_a_network_that_exists_and_says_in_a_comment_where_it_is_from(name):
    model = config_of(name).model
    with torch.device("meta"):
        create_model(model.name, norm=model.norm, conv=model.conv, **model.options)
    assert find_recipe(name).read_text().startswith("# ")


def test_whatever_repeats_a_published_row_has_a_claim():
    assert {name for name in recipes() if config_of(name).claim == ClaimConfig()} == OWN


@pytest.mark.parametrize("name", CLAIMING)
def test_its_claim_is_sane_and_has_a_source(name):
    claim = config_of(name).claim
    assert claim.source.startswith("https://github.com/")
    assert claim.status
    data = name.partition("/")[0]
    if data in ERRORS:
        assert (claim.top1, claim.top5) == (None, None)
        least, most = ERRORS[data]
        assert least < claim.error < most
    else:
        assert claim.error is None
        assert TOP1[0] < claim.top1 < TOP1[1]
        assert TOP5[0] < claim.top5 < TOP5[1]


@pytest.mark.parametrize("name", CIFAR100)
def test_a_network_is_trained_alike_on_both_cifars(name):
    hundred, ten = config_of(name), config_of(name.replace("100/", "10/"))
    for section in ("model", "train", "optimizer", "schedule"):
        assert getattr(hundred, section) == getattr(ten, section)
    assert name in OWN or hundred.claim.error > ten.claim.error


@pytest.mark.parametrize("checkpoint", PUBLISHED, ids=lambda checkpoint: checkpoint.name)
def test_every_published_checkpoint_has_one_recipe_that_claims_the_same(checkpoint):
    gpus, samples = checkpoint.geometry or (1, None)
    claim = (checkpoint.network, samples, round(100 * checkpoint.top1, 2), round(100 * checkpoint.top5, 2))
    found = []
    for name in IMAGENET:
        config = config_of(name)
        if (config.model.name, config.train.samples_per_gpu, config.claim.top1, config.claim.top5) == claim:
            found.append(config)
    (config,) = found
    assert samples is None or config.train.batch_size == gpus * samples
    assert config.model.options.get("statistics") == (None if checkpoint.using_bn else ["instance", "layer"])


@pytest.mark.parametrize("name", recipes())
def test_its_first_step_has_a_finite_loss(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = [] if (config_of(name).train.samples_per_gpu or 0) <= FEW else [f"--samples-per-gpu={FEW}"]
    # Where nothing is, noise stands in for the pictures, so that this passes and takes as long everywhere.
    root = [f"--data.root={tmp_path}"] if "root" in config_of(name).data else []
    config = config_of(name, *few, *root)
    done = dry_run(config)
    assert math.isfinite(done.loss)
    assert done.samples == min(config.train.batch_size, 2 * (config.train.samples_per_gpu or 2))
    assert bool(done.missing) == bool(root)
    assert name not in MILLIONS or round(done.parameters / 1e6, 2) == MILLIONS[name]
    assert not list(tmp_path.iterdir())
