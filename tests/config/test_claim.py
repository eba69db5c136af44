"""What is published, beside what was measured."""

import pytest
import yaml

from switchnorm.config.claim import about, beside, make_claim
from switchnorm.config.recipe import read_config
from switchnorm.recipes import find_recipe, recipes
from switchnorm.training.measure import steady_rate

RECIPE = {
    "model": {"name": "digits_resnet9", "norm": "sn"},
    "data": {"name": "digits"},
    "train": {"epochs": 2, "batch_size": 32},
    "claim": {"error": 6.11, "source": "Somebody, 2019", "status": "not rerun here"},
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def test_error_and_accuracies_stand_beside_each_other():
    measured = {"val_accuracy": 0.9358, "val_accuracy_top5": 0.991}
    assert beside(make_claim(error=6.11), "classification", measured) == "top-1 error 6.42 % (published 6.11 %)"
    assert beside(make_claim("S", "not rerun here", top1=93.0, top5=99.0), "classification", measured) == (
        "top-1 93.58 % (published 93.00 %), top-5 99.10 % (published 99.00 %); S; not rerun here"
    )
    assert beside(make_claim(top5=99.0), "classification", {"val_accuracy": 0.5}) is None
    assert beside(make_claim(source="S"), "classification", measured) is None


@pytest.mark.parametrize(
    "flags",
    [
        *[
            (),
            ("--seed", "3"),
            ("--device", "cpu"),
            ("--norm", "sn"),
            ("--precision", "64"),
            ("--data.augment", "false"),
        ],
        *[("--train.eval_batch_size", "7"), ("--train.snapshot_epochs", "1")],
    ],
)
def test_a_claim_stays_with_the_recipe(recipe, flags):
    assert read_config(recipe, flags).claim == make_claim(**RECIPE["claim"])


@pytest.mark.parametrize(
    "flags",
    [
        *[("--norm", "bn"), ("--samples-per-gpu", "2"), ("--lr", "1"), ("--epochs", "3"), ("--train.ema", "0.5")],
        *[("--data.augment", "true"), ("--train.calibrate", "3"), ("--optimizer.decay_logits", "true")],
    ],
)
def test_another_training_has_no_claim(recipe, flags):
    assert read_config(recipe, flags).claim == make_claim()
    assert read_config(recipe, (*flags, "--claim.top1", "90")).claim == make_claim(top1=90)


@pytest.mark.parametrize(
    ("name", "benchmark"),
    [("imagenet/resnetv1sn50_step", 50_000), ("cifar100/resnet110", 10_000), ("ade20k/resnet50_dilated8_c1_sn", 2_000)],
)
def test_a_claim_is_about_the_whole_benchmark(name, benchmark):
    config = read_config(find_recipe(name), ["--train.warm_start", "weights.pth"] if "ade" in name else [])
    assert config.claim != make_claim()
    assert about(config.claim, config, benchmark) == about(config.claim, config, None) == config.claim
    for pictures in (1, benchmark - 1):
        assert about(config.claim, config, pictures) == make_claim()


def test_a_training_that_began_with_other_weights_is_claimed_beside_its_like():
    claimed = [name for name in recipes() if read_config(find_recipe(name)).claim["warm_start"]]
    ade20k = [name for name in claimed if name.startswith("ade20k/")]
    assert ade20k == [f"ade20k/resnet50_dilated8_c1_{norm}" for norm in ("gn", "sn", "syncbn")]
    assert all(name.startswith(("ade20k/", "coco/")) for name in claimed)
    for name in claimed:
        scratch = read_config(find_recipe(name))
        begun = read_config(find_recipe(name), ["--train.warm_start", "weights.pth"])
        benchmark = 2_000 if name in ade20k else 5_000
        assert begun.claim == scratch.claim
        assert about(scratch.claim, scratch, benchmark) == make_claim()
        assert about(begun.claim, begun, benchmark) == begun.claim


@pytest.mark.parametrize(
    "flags",
    [
        ("--data.colors", "rgb"),
        ("--data.test_resize", "antialiased"),
        ("--data.test_sides", "[300]"),
        ("--model.options.momentum", "0.1"),
        ("--model.options.published_start", "false"),
        ("--segmentation.flip", "true"),
    ],
)
def test_what_a_row_of_ade20k_trained_and_evaluated_with_is_part_of_its_claim(flags):
    recipe = find_recipe("ade20k/resnet50_dilated8_c1_sn")
    assert read_config(recipe, ("--train.warm_start", "a.pth", "--data.root", "b")).claim["mean_iou"] == 38.72
    assert read_config(recipe, ("--train.warm_start", "a.pth", *flags)).claim == make_claim()


@pytest.mark.parametrize("flags", [("--data.lighting", "0.1"), ("--data.plain_crop", "random")])
def test_what_a_row_of_imagenet_trained_with_is_part_of_its_claim(flags):
    assert read_config(find_recipe("imagenet/resnetv1sn50_step"), flags).claim == make_claim()


def test_the_steady_rate_leaves_out_the_first_epoch():
    rows = [{"images_per_second": text} for text in ("10.0", "100.0", "300.0", "200.0", "")]
    assert steady_rate(rows) == 200.0
    assert steady_rate(rows[:1]) == 10.0
    assert steady_rate([]) is None
