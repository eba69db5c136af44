"""The shipped recipes: each says what is known of it, names what exists, and takes its first step."""

from __future__ import annotations

import math
import re
from dataclasses import asdict

import pytest
import torch

from switchnorm.config.claim import make_claim
from switchnorm.models import create_model
from switchnorm.recipes import find_recipe, recipes
from switchnorm.training import dry_run
from switchnorm.weights import PUBLISHED
from tests.recipes.configs import config_of

#: Recipes that repeat no published row: of this library's own, and of networks for which no result was published.
OWN = {
    "ade20k/resnet50_dilated8_c1_bn",
    "ade20k/resnet50_dilated8_c1_gnws",
    "ade20k/resnet50_dilated8_c1_ssn",
    "bccd/lite0",
    "bccd/small",
    "camvid/pretrained_small",
    "camvid/resnet18_dilated8_ppm",
    "camvid/small",
    "cifar10/geometry",
    "cifar10/geometry_cpu",
    "cifar10/resnet1202",
    "cifar10/resnet20",
    "cifar100/resnet1202",
    "cifar100/resnet20",
    "coco/faster_resnet50_fpn_scratch_sn",
    "coco/faster_resnet50_fpn_ssn",
    "coco/faster_resnet50_fpn_syncbn",
    "coco/mask_resnet50_fpn_scratch_sn",
    "coco/mask_resnet50_fpn_ssn",
    "coco/mask_resnet50_fpn_syncbn",
    "digits/resnet9",
    "imagenet/l_resnext152",
}
CLAIMING = sorted(set(recipes()) - OWN)
CLASSIFIERS = [checkpoint for checkpoint in PUBLISHED if checkpoint.top1 is not None]
DETECTORS = [checkpoint for checkpoint in PUBLISHED if checkpoint.box_ap is not None]
IMAGENET = [name for name in recipes() if name.startswith("imagenet/")]
CIFAR100 = [name for name in recipes() if name.startswith("cifar100/")]

#: Errors in %, and top-1 and top-5 accuracies in %, that a sane claim is between.
ERRORS = {"cifar10": (2, 25), "cifar100": (15, 60)}
TOP1, TOP5 = (65, 80), (88, 97)
#: And average precisions of boxes.
BOX_AP = (20, 45)

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

#: Pictures of segmentation for that step, which would otherwise be up to 1,000 pixels wide.
SMALL = [
    "--data.short_sides=[48]",
    "--data.test_sides=[48]",
    "--data.longest=64",
    "--data.crop=null",
    "--data.scale=null",
]


#: And of detection, which would be up to 1,333; with as few regions.
SMALL_SCENES = [
    "--data.short_sides=[32]",
    "--data.test_side=32",
    "--data.longest=64",
    "--model.options.rois_per_image=8",
    "--model.options.proposals_train=20",
]
#: Bodies of detectors that are another for that step.
BODIES = re.compile(r"^(?:resnet50|resnet101|l_resnext50|l_resnext101)_")


def small_detector(name: str) -> list[str]:
    """The recipe's detector on a small body with a narrow pyramid; what it has otherwise stays."""
    network = BODIES.sub("resnet18_", config_of(name).model.name).replace("_fpn+", "_fpn16+")
    narrow = ["--model.options.box_channels=16"] if "_fpn" in network else []
    return [*SMALL_SCENES, f"--model.name={network}", *narrow]


@pytest.mark.parametrize("name", recipes())
def test_it_names_a_network_that_exists_and_says_in_a_comment_where_it_is_from(name):
    model = config_of(name).model
    with torch.device("meta"):
        create_model(model.name, norm=model.norm, norms=model.norms, conv=model.conv, **model.options)
    assert find_recipe(name).read_text().startswith("# ")


def test_whatever_repeats_a_published_row_has_a_claim():
    assert {name for name in recipes() if config_of(name).claim == make_claim()} == OWN


@pytest.mark.parametrize("name", CLAIMING)
def test_its_claim_is_sane_and_has_a_source(name):
    claim = config_of(name).claim
    assert claim["source"].startswith("https://github.com/")
    assert claim["status"]
    data = name.partition("/")[0]
    if data == "ade20k":
        assert claim["overall"] == pytest.approx((claim["mean_iou"] + claim["pixel_accuracy"]) / 2, abs=0.011)
        assert 30 < claim["mean_iou"] < 45
    elif data == "coco":
        low, high = BOX_AP
        assert low <= claim["box_ap"] < high
        assert (claim["mask_ap"] is not None) == ("mask" in name)
        for kind in ("box", "mask"):
            claimed = [value for iou in ("", "75", "50") if (value := claim[f"{kind}_ap{iou}"]) is not None]
            assert claimed == sorted(claimed), "the less overlap it takes, the more is found"
    elif data in ERRORS:
        assert (claim["top1"], claim["top5"]) == (None, None)
        least, most = ERRORS[data]
        assert least < claim["error"] < most
    else:
        assert claim["error"] is None
        assert TOP1[0] < claim["top1"] < TOP1[1]
        assert TOP5[0] < claim["top5"] < TOP5[1]


@pytest.mark.parametrize("name", [name for name in recipes() if name.startswith("ade20k/")])
def test_the_rows_of_ade20k_differ_in_the_normalizer_alone(name):
    ours, theirs = asdict(config_of(name)), asdict(config_of("ade20k/resnet50_dilated8_c1_sn"))
    for config in (ours, theirs):
        del config["claim"], config["model"]["norm"], config["train"]["sync"], config["train"]["samples_per_gpu"]
        config["model"]["options"].pop("momentum", None)
    assert ours == theirs


@pytest.mark.parametrize("kind", ["faster", "mask"])
def test_the_rows_of_coco_that_nobody_has_published_are_trained_as_sn(kind):
    theirs = asdict(config_of({"faster": "coco/faster_resnet50_fpn_sn", "mask": "coco/mask_resnet50_fpn_sn_8x1"}[kind]))
    for norm in ("ssn", "syncbn"):
        ours = asdict(config_of(f"coco/{kind}_resnet50_fpn_{norm}"))
        for config in (ours, theirs):
            config["train"] |= {"sync": False, "samples_per_gpu": None}
        assert all(ours[part] == theirs[part] for part in ("data", "train", "optimizer", "schedule"))
        assert ours["model"]["name"] == theirs["model"]["name"]


@pytest.mark.parametrize("name", recipes())
def test_it_has_no_group_of_parameters_that_is_trained_as_all_others(name):
    """Its glob would change nothing, and refuse every network without such parameters."""
    groups = config_of(name).optimizer.groups
    assert all(group.lr_factor != 1 or group.weight_decay is not None for group in groups)


@pytest.mark.parametrize("name", CIFAR100)
def test_a_network_is_trained_alike_on_both_cifars(name):
    hundred, ten = config_of(name), config_of(name.replace("100/", "10/"))
    for section in ("model", "train", "optimizer", "schedule"):
        assert getattr(hundred, section) == getattr(ten, section)
    assert name in OWN or hundred.claim["error"] > ten.claim["error"]


@pytest.mark.parametrize("checkpoint", CLASSIFIERS, ids=lambda checkpoint: checkpoint.name)
def test_every_published_classifier_has_one_recipe_that_claims_the_same(checkpoint):
    gpus, samples = checkpoint.geometry or (1, None)
    claim = (checkpoint.network, samples, round(100 * checkpoint.top1, 2), round(100 * checkpoint.top5, 2))
    found = []
    for name in IMAGENET:
        config = config_of(name)
        if (config.model.name, config.train.samples_per_gpu, config.claim["top1"], config.claim["top5"]) == claim:
            found.append(config)
    (config,) = found
    assert samples is None or config.train.batch_size == gpus * samples
    assert config.model.options.get("statistics") == (None if checkpoint.using_bn else ["instance", "layer"])


@pytest.mark.parametrize("checkpoint", DETECTORS, ids=lambda checkpoint: checkpoint.name)
def test_every_published_detector_has_the_recipe_of_its_name_that_claims_the_same(checkpoint):
    config = config_of(f"coco/{checkpoint.name}")
    claimed = {kind: config.claim[kind] and config.claim[kind] / 100 for kind in ("box_ap", "mask_ap")}
    assert claimed == pytest.approx({"box_ap": checkpoint.box_ap, "mask_ap": checkpoint.mask_ap})
    assert config.claim["source"].startswith(checkpoint.source)
    assert (config.model.name, config.model.norm) == (checkpoint.network, checkpoint.norm)
    gpus, samples = checkpoint.geometry
    assert config.train.batch_size == gpus * samples
    assert config.train.samples_per_gpu == (samples if checkpoint.using_bn else None)
    assert config.model.options.get("statistics") == (None if checkpoint.using_bn else list(checkpoint.statistics))
    # A recipe trains; how the published file is evaluated is no matter of it.
    told = {key: value for key, value in checkpoint.options.items() if key != "published_eval"}
    assert {key: config.model.options[key] for key in told} == told


#: Networks of both CIFARs take their step on the one, since they are trained alike on the other.
STEPPING = [name for name in recipes() if name not in CIFAR100 or name == "cifar100/resnet20"]


@pytest.mark.parametrize("name", STEPPING)
def test_its_first_step_has_a_finite_loss(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = [] if (config_of(name).train.samples_per_gpu or 0) <= FEW else [f"--samples-per-gpu={FEW}"]
    # Where nothing is, noise stands in for the pictures, so that this passes and takes as long everywhere.
    root = [f"--data.root={tmp_path}"] if "root" in config_of(name).data else []
    small = {"segmentation": SMALL, "detection": small_detector(name)}.get(config_of(name).task, [])
    config = config_of(name, *few, *root, *small)
    done = dry_run(config)
    assert math.isfinite(done.loss)
    assert done.samples == min(config.train.batch_size, 2 * (config.train.samples_per_gpu or 2))
    assert bool(done.missing) == bool(root)
    assert name not in MILLIONS or round(done.parameters / 1e6, 2) == MILLIONS[name]
    assert not list(tmp_path.iterdir())
