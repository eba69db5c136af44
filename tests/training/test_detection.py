"""Runs of detectors: what they leave, resuming, processes, frozen parts, divergence, and rehearsals."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml

from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.tasks.detection.task import Detection
from switchnorm.training import dry_run
from switchnorm.training.build import build_model, training_batches
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import resume, start
from tests.forked import together
from tests.training.objects import write_objects
from tests.training.trainings import StoppedError, stopping

#: Of 8 training pictures, half of them without objects, in batches of 4: 2 steps in each epoch.
CONFIG = {
    "model": {
        "name": "resnet18_fpn16+faster_2fc",
        "norm": "sn",
        "options": {
            "box_channels": 16,
            "anchor_size": 8.0,
            "anchors_per_image": 32,
            "rois_per_image": 16,
            "proposals_train": 40,
            "proposals_test": 20,
        },
    },
    "data": {"name": "coco", "short_sides": [48, 64], "test_side": 48, "flip": "both", "workers": 0, "masks": False},
    "train": {"epochs": 2, "batch_size": 4, "samples_per_gpu": 2, "device": "cpu", "loggers": []},
    "optimizer": {"lr": 0.02, "nesterov": False, "decay_norms": False, "bias_lr_factor": 2.0, "clip_norm": 10.0},
    "schedule": {"name": "step", "milestones": [1], "warmup_steps": 2, "warmup_from": 0.333},
    "detection": {"examples": 1},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    root = write_objects(folder / "objects", {"train": 8, "val": 3})
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "data": {**CONFIG["data"], "root": str(root)}}))
    return path


def train(recipe: Path, path: Path, *flags: str) -> RunFolder:
    return start(read_config(recipe, flags), path, default=path, command=(), quiet=True)[0]


@pytest.fixture(scope="module")
def done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(recipe, tmp_path_factory.mktemp("done") / "run")


def state(run: RunFolder) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run.last)["state_dict"]
    return found


def batches_of(config: Config) -> Iterator[Any]:
    """The training batches of all epochs."""
    batches = training_batches(config, create_dataset(**config.data))
    for _ in range(config.train.epochs):
        yield from batches


def assert_same(left: RunFolder, right: RunFolder) -> None:
    """The same bits, and the same tables but for times."""
    a, b = state(left), state(right)
    assert a.keys() == b.keys()
    assert [key for key, value in a.items() if not torch.equal(value, b[key])] == []
    for one, two in zip(left.metrics(), right.metrics(), strict=True):
        assert {**one, "images_per_second": ""} == {**two, "images_per_second": ""}


def test_a_run_has_a_loss_in_training_and_average_precision_in_validation(done):
    for row in done.metrics():
        assert float(row["train_loss"]) > 0
        assert row["train_accuracy"] == row["val_loss"] == row["val_mask_ap"] == "", "which detectors of boxes have not"
        assert 0 <= float(row["val_ap"]) <= float(row["val_ap50"]) <= 1
    assert done.record()["test_pictures"] == 3
    assert done.record()["result"]["best_val_ap"] >= float(done.metrics()[0]["val_ap"])
    again = evaluate(done, done.last, config=read_config(done.config_file, ("--batch-size", "2")))
    assert again.metrics["val_ap"] == float(done.metrics()[-1]["val_ap"]), "whatever the size of batches"


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.sweep), 3])
def test_a_run_that_is_killed_inside_an_epoch_goes_on_bit_for_bit(recipe, done, tmp_path, step):
    flags = ("--train.checkpoint_minutes", "0")
    with patch.object(MidEpochCheckpoint, "on_train_batch_end", stopping(step)), pytest.raises(StoppedError):
        train(recipe, tmp_path / "stopped", *flags)
    run, _ = resume(tmp_path / "stopped", quiet=True)
    assert_same(run, done)


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.sweep)])
def test_any_number_of_workers_trains_the_same_bits(recipe, done, tmp_path, workers):
    assert_same(train(recipe, tmp_path / "run", "--data.workers", str(workers)), done)


#: A rate that is the same all the time.
STEPLESS = ("--schedule.warmup_steps", "0", "--schedule.warmup_from", "null", "--schedule.milestones", "[]")
EXACT = {"rtol": 1e-7, "atol": 1e-10}
#: A validation after each step, and so all processes begin each with the same running statistics: one without an object
#: keeps the mask head's own, as a ghost batch without one keeps its share of them.
MASKS = ("--model", "resnet18_fpn16+mask_4conv1fc", "--data.masks", "true", "--train.epoch_steps", "1", "--epochs", "4")


@pytest.mark.parametrize("flags", [(), pytest.param(MASKS, marks=pytest.mark.sweep)], ids=["boxes", "masks"])
def test_two_processes_train_as_one_with_ghost_batches(recipe, tmp_path, flags):
    """Their shares have other numbers of objects, and one of them has none in some step."""
    flags = (*flags, "--precision", "64", "--optimizer.clip_norm", "null", "--lr", "0.002")
    config = read_config(recipe, flags)
    objects = [[len(target["boxes"]) for target in targets] for _, targets in batches_of(config)]
    shares = {sum(share) for counts in objects for share in (counts[:2], counts[2:])}
    assert 0 in shares
    assert len(shares) > 1
    one = train(recipe, tmp_path / "one", *flags)
    two = RunFolder(tmp_path / "two")
    training = ("train", recipe, *flags, "--samples-per-gpu", "null", "--out", two.path)
    started = together(tmp_path, 2, "-m", "switchnorm", *training)
    assert started.returncode == 0, started.stderr
    a, b = state(one), state(two)
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, **EXACT, msg=lambda text, key=key: f"{key}: {text}")
    last = [run.metrics()[-1] for run in (one, two)]
    assert float(last[0]["train_loss"]) == pytest.approx(float(last[1]["train_loss"]), rel=1e-6)
    assert last[0]["val_ap"] == last[1]["val_ap"]


def test_frozen_parts_of_a_detector_stay_bit_for_bit(recipe, tmp_path):
    flags = ("--norm", "bn", "--train.freeze", '["body.stem", "body.layer1"]', "--train.calibrate", "1")
    run = train(recipe, tmp_path / "run", *flags)
    after = state(run)
    for key, value in build_model(run.config(), 2).state_dict().items():
        frozen = key.startswith(("body.stem", "body.layer1"))
        if frozen or key.endswith(("conv1.weight", "running_mean")):
            assert torch.equal(after[f"model.{key}"], value) == frozen, key


def test_calibration_reaches_the_heads_and_leaves_training_as_it_is(recipe, tmp_path):
    flags = ("--model", "resnet18_fpn16+faster_4conv1fc", "--norm", "bn", "--epochs", "1", *STEPLESS)
    plain = train(recipe, tmp_path / "plain", *flags)
    run = train(recipe, tmp_path / "run", *flags, "--train.calibrate", "2")
    a, b = state(plain), state(run)
    moved = {key for key, value in a.items() if not torch.equal(value, b[key])}
    assert moved
    assert all("running_" in key or "num_batches" in key for key in moved), "training is the same"
    assert any(key.startswith("model.box.") for key in moved)


def test_a_training_that_diverges_names_the_layer_and_a_step_can_be_left_out(recipe, tmp_path):
    flags = ("--lr", "1e30", "--optimizer.clip_norm", "null", *STEPLESS)
    with pytest.raises(
        InputError, match=r"training diverged in epoch 1, step 2 of 2, .*'body\..*--schedule\.warmup_epochs"
    ):
        train(recipe, tmp_path / "run", *flags)
    with_nan = Detection.training_step

    def once(self: Detection, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = with_nan(self, batch, batch_idx)
        return loss * float("nan") if self.global_step == 1 else loss

    with patch.object(Detection, "training_step", once), pytest.warns(UserWarning, match="1 of 2 steps of epoch 1"):
        run = train(recipe, tmp_path / "skipped", "--train.on_divergence", "skip")
    assert run.record()["steps_left_out"] == 1
    assert all(value.isfinite().all() for value in state(run).values() if value.is_floating_point())


# A whole stage behind each region takes minutes in 16 bits on processors without instructions for them.
@pytest.mark.parametrize(
    ("name", "precision"), [("resnet18_fpn16+mask_4conv1fc", "bf16"), ("resnet18_c4+faster", "32")]
)
def test_a_dry_run_needs_no_data_and_leaves_nothing(recipe, tmp_path, name, precision):
    flags = ("--model", name, "--data.root", str(tmp_path / "none"), "--precision", precision)
    flags += ("--model.options", json.dumps({"rois_per_image": 8, "proposals_train": 20, "proposals_test": 20}))
    flags += ("--train.channels_last", "true", "--data.test_side", "800")
    with contextlib.chdir(tmp_path):
        found = dry_run(read_config(recipe, flags))
    assert "of noise in 64x64 pixels, for the data is not here" in str(found)
    assert found.loss > 0
    assert list(tmp_path.iterdir()) == []


def test_test_pictures_without_an_object_are_refused_before_anything_is_trained(recipe, tmp_path):
    """A crowd counts as none."""
    root = shutil.copytree(read_config(recipe, ()).data["root"], tmp_path / "data")
    path = root / "annotations" / "val.json"
    content = json.loads(path.read_text())
    content["annotations"] = [{**each, "iscrowd": 1} for each in content["annotations"]]
    path.write_text(json.dumps(content))
    flags = ("--data.root", str(root))
    for begin in (partial(train, recipe, tmp_path / "run"), lambda *flags: dry_run(read_config(recipe, flags))):
        with (
            patch.object(Detection, "training_step", side_effect=AssertionError),
            pytest.raises(InputError, match="no object of the test pictures counts"),
        ):
            begin(*flags)
    assert not (tmp_path / "run").exists()


def test_a_head_that_cannot_be_trained_shows_before_there_is_a_run(recipe, tmp_path):
    """The meta device would not come as far as the heads."""
    flags = ("--model", "resnet18_fpn16+mask_4conv1fc")
    with pytest.raises(InputError, match="masks"):
        train(recipe, tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "value", "off"),
    [("mixup", "0.2", "0"), ("cutmix", "1", "0"), ("label_smoothing", "0.1", "0"), ("cuda_graph", "true", "false")],
)
def test_what_is_for_classes_of_pictures_is_refused(recipe, flag, value, off):
    message = rf"train\.{flag} is not for detection, and 'coco' has boxes; set it to {off}"
    with pytest.raises(InputError, match=message):
        read_config(recipe, ("--device", "auto", f"--train.{flag}", value))


def test_only_convolutions_are_compiled_and_laid_out_otherwise(recipe):
    config = read_config(recipe, ("--train.channels_last", "true"))
    model = build_model(config, 2)
    by_layout = {
        name.partition(".")[0]
        for name, p in model.named_parameters()
        if p.dim() == 4 and p.shape[2] > 1 and p.is_contiguous(memory_format=torch.channels_last)
    }
    assert by_layout == {"body", "neck"}
    Detection.compile(model)
    assert {name for name, part in model.named_modules() if part._compiled_call_impl is not None} == {"body", "neck"}
