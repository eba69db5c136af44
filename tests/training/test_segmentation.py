"""Segmentation runs from the command line: folder, resume, processes, evaluation, prediction, mistakes."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from switchnorm.cli import main
from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from switchnorm.recipes import find_recipe
from switchnorm.runs.folder import RunFolder
from switchnorm.tasks.segmentation.records import write_examples
from switchnorm.training import dry_run
from tests import forked
from tests.forked import together
from tests.training.scenes import CLASSES, VOID, write_scenes
from tests.training.test_resume import CLOCK, assert_same_run, rows, wait_for

CONFIG = {
    "model": {"name": "resnet18+c1_bilinear_deepsup", "norm": "sn"},
    "data": {
        "name": "masks",
        "short_sides": [32, 40],
        "longest": 64,
        "label_stride": 8,
        "test_sides": [40],
        "workers": 0,
    },
    "train": {"epochs": 2, "batch_size": 4, "samples_per_gpu": 2, "device": "cpu"},
    "optimizer": {"lr": 0.02, "nesterov": False, "decay_norms": False},
    "schedule": {"name": "polynomial"},
    "segmentation": {"examples": 2},
}


def write_recipe(folder: Path) -> Path:
    """Scenes, and a recipe of 2 epochs with 3 steps each."""
    scenes = write_scenes(folder / "scenes", {"train": 12, "val": 5, "test": 3})
    path = folder / "small.yaml"
    content = {**CONFIG, "data": {**CONFIG["data"], "root": str(scenes), "ignore": [VOID]}}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def read_rows(file: Path) -> list[dict[str, str]]:
    """A CSV file with all its columns."""
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def switchnorm(folder: Path, *arguments: str | Path) -> str:
    """What `switchnorm ...` prints in a folder."""
    done = forked.run("-m", "switchnorm", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A folder with scenes and the finished run "done", and what its training printed."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, switchnorm(folder, "train", write_recipe(folder), "--out", "done")


def test_a_run_leaves_what_the_design_says(trained):
    where, out = trained
    folder = where / "done"
    last = rows(folder / "metrics.csv")[-1]
    assert f"mean IoU {100 * float(last['val_mean_iou']):.2f} %" in out
    assert float(last["val_overall"]) == pytest.approx((float(last["val_mean_iou"]) + float(last["val_accuracy"])) / 2)
    record = json.loads((folder / "run.json").read_text())
    assert record["result"].keys() == {"val_mean_iou", "val_accuracy", "val_overall", "best_val_mean_iou"}

    by_class = read_rows(folder / "classes.csv")
    assert [(row["epoch"], row["class"]) for row in by_class] == [(e, name) for e in "12" for name in CLASSES]
    ious = [float(row["iou"]) for row in by_class[3:]]
    assert sum(ious) / 3 == pytest.approx(float(last["val_mean_iou"]), abs=1e-5)
    with (folder / "confusion.csv").open(newline="") as file:
        head, *matrix = csv.reader(file)
    assert head == ["truth", *CLASSES]
    assert [row[0] for row in matrix] == list(CLASSES)
    counts = np.array([row[1:] for row in matrix], dtype=int)
    assert counts.sum() == 5 * 40 * 56 - 2 * (3 * 56 + 2 * 40), "every pixel of the five pictures but the void ones"
    assert counts.trace() / counts.sum() == pytest.approx(float(last["val_accuracy"]))

    described = json.loads((folder / "examples/examples.json").read_text())
    assert described["epoch"] == 2
    assert [each["name"] for each in described["classes"]] == list(CLASSES)
    assert [each["name"] for each in described["pictures"]] == ["val01", "val03"]
    truth = np.array(Image.open(folder / "examples/val01.truth.png"))
    written = np.array(Image.open(where / "scenes/valannot/val01.png"))
    assert np.array_equal(np.where(written == VOID, 255, written), truth)
    prediction = np.array(Image.open(folder / "examples/val01.prediction.png"))
    assert prediction.shape == truth.shape == np.array(Image.open(folder / "examples/val01.jpg")).shape[:2]
    share = (prediction == truth)[truth != 255].mean()
    assert described["pictures"][0]["accuracy"] == pytest.approx(share)


def test_a_converted_checkpoint_is_of_the_network_of_its_run(trained, tmp_path, capsys):
    where, _ = trained
    main(["convert", str(where / "done/checkpoints/best.ckpt"), str(tmp_path / "best.safetensors")])
    assert "network resnet18+c1_bilinear_deepsup;" in capsys.readouterr().out


def test_examples_of_equal_names_stay_apart_and_void_has_no_score(tmp_path):
    root = write_scenes(tmp_path / "scenes", {"val": 3})
    for folder in ("val", "valannot"):
        for number, city in enumerate(("aachen", "bonn", "cologne")):
            (root / folder / city).mkdir()
            (root / folder / f"val{number:02}.png").rename(root / folder / city / "street.png")
    Image.new("L", Image.open(root / "val/cologne/street.png").size, VOID).save(root / "valannot/cologne/street.png")
    data = create_dataset("masks", root=str(root), ignore=[VOID])
    predictions = {index: torch.zeros_like(data.test_target(index)) for index in (1, 2)}
    predictions[0] = torch.where(data.test_target(0) == IGNORED, 0, data.test_target(0))
    write_examples(tmp_path, data, predictions, epoch=0)
    first, second, void = json.loads((tmp_path / "examples.json").read_text())["pictures"]
    assert (first["name"], first["accuracy"], first["mean_iou"]) == ("street-0", 1, 1)
    assert second["name"] == "street-1"
    assert second["accuracy"] < 1
    assert (void["name"], void["accuracy"], void["mean_iou"]) == ("street-2", None, None)
    for index, name in enumerate(("street-0", "street-1", "street-2")):
        assert np.array_equal(np.array(Image.open(tmp_path / f"{name}.truth.png")), data.test_target(index))


def test_evaluation_finds_what_training_found(trained):
    where, _ = trained
    last = rows(where / "done/metrics.csv")[-1]
    out = switchnorm(where, "eval", "done", "--confusion", "again.csv")
    assert (where / "again.csv").read_text() == (where / "done/confusion.csv").read_text()
    assert "on the 5 test pictures of masks" in out
    assert f"{100 * float(last['val_mean_iou']):.2f} %" in out
    assert f"{100 * float(last['val_overall']):.2f} %" in out
    assert [line.split()[0] for line in out.splitlines()[-6:-2]] == ["class", *CLASSES]
    assert out.splitlines()[-1] == "again.csv: pixels by true and predicted class"
    out = switchnorm(where, "eval", "done", "--split", "test", "--scales", "32", "64", "--flip", "--window", "32")
    assert "on the 3 test pictures" in out


def test_a_killed_run_ends_as_the_unkilled_one(command, run, recipe, tmp_path):
    flags = (recipe, "--train.checkpoint_minutes", "0", "--epochs", "2", "--train.epoch_steps", "4", "--norm", "ssn")
    flags += ("--train.frozen_statistics", "true")
    assert run("train", *flags, "--out", "reference")[0] == 0
    process = command("train", *flags, "--out", "killed")
    checkpoint = tmp_path / "killed/checkpoints/last.ckpt"
    wait_for(checkpoint.is_file, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < torch.load(checkpoint, weights_only=True)["global_step"] < 8, "killed too late to say anything"
    assert run("train", "--resume", "killed")[0] == 0
    assert_same_run(tmp_path / "reference", tmp_path / "killed")
    for name in ("classes.csv", "confusion.csv", "examples/examples.json"):
        assert (tmp_path / "reference" / name).read_text() == (tmp_path / "killed" / name).read_text()
    rates = [float(read_rows(tmp_path / name / "metrics.csv")[0][CLOCK]) for name in ("reference", "killed")]
    assert rates[1] > rates[0] / 50, "the clock of the epoch that was resumed ran since something else"


@pytest.mark.sweep
def test_processes_train_and_evaluate_as_one(run, recipe, tmp_path):
    for file in sorted((tmp_path / "scenes/trainannot").iterdir())[
        ::2
    ]:  # so that the pixels of shares differ in number
        labels = np.array(Image.open(file))
        labels[labels.shape[0] // 3 :] = VOID
        Image.fromarray(labels).save(file)
    flags = (recipe, "--epochs", "1", "--norm", "bn", "--precision", "64", "--samples-per-gpu", "null")
    assert run("train", *flags, "--out", "one")[0] == 0
    done = together(tmp_path, 2, "-m", "switchnorm", "train", *flags, "--train.sync", "true", "--out", "two")
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "checkpoints/last.ckpt")["state_dict"] for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-7, msg=lambda text, key=key: f"{key}: {text}")
    assert (tmp_path / "one/confusion.csv").read_text() == (tmp_path / "two/confusion.csv").read_text()
    names = [sorted(p.name for p in (tmp_path / each / "examples").iterdir()) for each in ("one", "two")]
    assert names[0] == names[1]
    code, alone, err = run("eval", "one", "--batch-size", "2")
    assert code == 0, err
    done = together(tmp_path, 2, "-m", "switchnorm", "eval", "one", "--batch-size", "2")
    assert done.returncode == 0, done.stderr
    lines = alone.splitlines()
    assert done.stdout.splitlines()[-len(lines) :] == lines


def test_frozen_statistics_stay_and_everything_else_is_trained(run, recipe, tmp_path):
    flags = (recipe, "--epochs", "1", "--norm", "bn")
    assert run("train", *flags, "--out", "first")[0] == 0
    weights = tmp_path / "first/checkpoints/last.ckpt"
    flags = (*flags, "--train.warm_start", weights, "--train.frozen_statistics", "true")
    code, out, err = run("train", *flags, "--out", "second")
    assert code == 0, err
    assert "warm start: " in out
    before, after = (torch.load(p)["state_dict"] for p in (weights, tmp_path / "second/checkpoints/last.ckpt"))
    for key, value in before.items():
        if "running" in key or "num_batches" in key:
            assert torch.equal(after[key], value), key
        elif "bn" in key and "weight" in key:
            assert not torch.equal(after[key], value), key


def test_a_dry_run_says_what_it_starts_with(trained):
    where, _ = trained
    weights = where / "done/checkpoints/last.ckpt"
    done = dry_run(read_config(where / "small.yaml", ["--train.warm_start", str(weights)]))
    first, second = str(done).splitlines()
    assert first.startswith("warm start: ")
    assert f"entries from {weights}" in first
    assert "one step on 4 pictures" in second


@pytest.mark.parametrize("model", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_networks_of_torchvision_train_under_the_same_task(trained, model):
    where, _ = trained
    done = dry_run(read_config(where / "small.yaml", ["--model", model, "--norm", "ssn"]))
    assert np.isfinite(done.loss)
    assert (done.samples, done.missing, done.steps_per_epoch) == (4, "", 3)


def test_predict_writes_masks_and_overlays(trained, tmp_path):
    where, _ = trained
    (tmp_path / "one").mkdir()
    Image.new("RGB", (70, 33), (90, 140, 220)).save(tmp_path / "one/sky.jpg")
    out = switchnorm(where, "predict", "done", tmp_path / "one", "scenes/test/test01.png", "--flip")
    assert "of 2 pictures" in out
    written = where / "done/predictions"
    assert sorted(p.name for p in written.iterdir()) == [
        "sky.png",
        "sky_overlay.jpg",
        "test01.png",
        "test01_overlay.jpg",
    ]
    mask = Image.open(written / "sky.png")
    assert (mask.mode, mask.size) == ("P", (70, 33))
    assert set(np.unique(np.array(mask))) <= {0, 1, 2}
    assert Image.open(written / "sky_overlay.jpg").size == (70, 33)


def test_predict_turns_photographs_and_finds_data_that_has_moved(trained, tmp_path, monkeypatch, capsys):
    where, _ = trained
    monkeypatch.chdir(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown a quarter turn clockwise
    shown = Image.open(where / "scenes/val/val01.png")
    shown.save("shown.png")
    shown.transpose(Image.Transpose.ROTATE_90).save("stored.png", exif=turned)
    shutil.copytree(where / "done", "moved")
    config = yaml.safe_load(Path("moved/config.yaml").read_text())
    config["data"]["root"] = "gone"
    Path("moved/config.yaml").write_text(yaml.safe_dump(config))
    root = str(where / "scenes")
    main(["predict", "moved", "shown.png", "./shown.png", "stored.png", "--out", "masks", "--data.root", root])
    assert "of 2 pictures" in capsys.readouterr().out
    for kind in (".png", "_overlay.jpg"):
        shown, stored = (np.array(Image.open(f"masks/{name}{kind}")) for name in ("shown", "stored"))
        assert np.array_equal(shown, stored)


def test_predict_says_what_is_wrong_before_it_writes(trained, tmp_path, monkeypatch, capsys):
    where, _ = trained
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "other"):
        Path(folder).mkdir()
    for file in ("a.png", "b_overlay.jpg", "b.jpg", "other/a.png"):
        Image.new("RGB", (40, 40)).save(file)
    Path("no.png").write_text("no picture")
    for arguments, message in [
        (("nothing.png",), "'nothing.png' is missing"),
        (("empty",), "'empty' holds no pictures"),
        (("a.png", "other"), "would share the mask a.png"),
        (("no.png",), "cannot read no.png"),
        (("other", "--out", "other"), "'other/a.png' would be replaced; write to another folder"),
        (("b.jpg", "b_overlay.jpg", "--out", "."), "'b_overlay.jpg' would be replaced"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(where / "done"), *(() if "--out" in arguments else ("--out", "masks")), *arguments])
        assert ended.value.code == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert not list(tmp_path.glob("masks/*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model", "resnet18"), "model 'resnet18' is for classification, and 'masks' for segmentation"),
        (("--model", "resnet18_dilated8+ppm"), "model 'resnet18_dilated8+ppm' is unknown; did you mean"),
        (("--task", "classification"), "task 'classification' does not fit 'masks'; the nearest is 'segmentation'"),
        (("--train.mixup", "0.2"), "train.mixup is for classification"),
        (("--segmentation.window", "50"), "window 50 is no multiple of 32 pixels; the nearest is 64"),
        (("--segmentation.window", "0"), "segmentation.window must be at least 32"),
        (("--segmentation.overlap", "1"), "segmentation.overlap must be below 1"),
        (("--train.epoch_steps", "0"), "train.epoch_steps must be at least 1"),
        (("--batch-size", "16", "--samples-per-gpu", "2"), "batch"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(trained, tmp_path, capsys, flags, message):
    where, _ = trained
    with pytest.raises(SystemExit) as ended:
        main(["train", str(where / "small.yaml"), *flags, "--out", str(tmp_path / "wrong")])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--segmentation.overlap", "1"), "segmentation.overlap must be below 1"),
        (("--scale", "300"), "argument '--scale' is unknown; did you mean '--scales'?"),
        (("--splits", "test"), "argument '--splits' is unknown; did you mean '--split'?"),
        (("--views", "flip"), "take --flip and --scales for segmentation"),
    ],
)
def test_evaluation_says_which_flag_was_meant(trained, monkeypatch, capsys, flags, message):
    where, _ = trained
    monkeypatch.chdir(where)
    with pytest.raises(SystemExit) as ended:
        main(["eval", "done", *flags])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_what_eval_cannot_do_is_said_at_once(trained, capsys):
    where, _ = trained
    weights = ("--weights", "none.pt", "--model", "digits_resnet9", "--data", "digits")
    for flags, message in [
        ((str(where / "done"), "--confusion", "no/where.csv"), "there is no folder 'no'"),
        ((*weights, "--scales", "32"), "--scales is for segmentation, and 'digits' is one of classification"),
        ((*weights, "--confusion", "a.csv"), "--confusion is for segmentation"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(["eval", *flags])
        assert ended.value.code == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--segmentation.flip", "true"), "segmentation.* needs a dataset with masks, and 'digits' has labels"),
        (("--model", "resnet18_dilated8+c1_bilinear"), "is for segmentation, and 'digits' for classification"),
    ],
)
def test_classification_has_no_segmentation_in_training(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as ended:
        main(["train", "digits/resnet9", *flags, "--out", str(tmp_path / "wrong")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("flags", [("--flip",), ("--scales", "32"), ("--split", "test")])
def test_classification_has_no_segmentation_in_evaluation(tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    RunFolder.create(Path("run"), read_config(find_recipe("digits/resnet9")), ())
    with pytest.raises(SystemExit) as ended:
        main(["eval", "run", *flags])
    assert ended.value.code == 2
    assert f"{flags[0]} is for segmentation, and 'run' is one of classification" in capsys.readouterr().err


def test_a_damaged_scene_stops_the_run_with_a_line(run, recipe, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "scenes/trainannot/train04.png")
    code, _, err = run("train", recipe, "--out", "stopped")
    assert code == 2
    assert "train04.png" in err
    assert "8x8" in err
    assert err.count("\n") == 1
