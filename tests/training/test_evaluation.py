"""What `switchnorm eval` and `predict` do besides scores: a part of the test set, arrays, pictures, any weights."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from switchnorm.cli import main
from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.data.segmentation.palette import distinct_colors
from switchnorm.recipes import find_recipe
from switchnorm.runs.folder import RunFolder
from switchnorm.training.build import build_model
from switchnorm.training.evaluate import evaluate
from switchnorm.weights import load_state, read_state
from tests.forked import together
from tests.training.scenes import CLASSES, VOID
from tests.training.test_segmentation import write_recipe

#: A picture's truth and predictions as colours.
COLORS = distinct_colors(len(CLASSES))


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes and a finished run, "done"."""
    folder = tmp_path_factory.mktemp("masks")
    main(["train", str(write_recipe(folder)), "--epochs", "1", "--out", str(folder / "done")])
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of digits."""
    folder = tmp_path_factory.mktemp("digits") / "done"
    main(["train", "digits/resnet9", "--norm", "sn", "--epochs", "2", "--device", "cpu", "--out", str(folder)])
    return folder


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The line that a command ends with, which must be the only one."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "pictures.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_all_pictures_stand_beside_truth_and_prediction(masks, tmp_path, capsys):
    out = tmp_path / "shown"
    main(["eval", str(masks / "done"), "--pictures", str(out)])
    assert "picture, truth and prediction of all 5 test pictures" in capsys.readouterr().out
    rows = read(out)
    assert sorted(row["picture"] for row in rows) == [f"val{number:02}" for number in range(5)]
    scores = [float(row["mean_iou"]) for row in rows]
    assert scores == sorted(scores)
    assert {path.name for path in out.iterdir()} == {"pictures.csv", *(f"{row['picture']}.png" for row in rows)}
    for row in rows:
        name = row["picture"]
        shown = np.array(Image.open(out / f"{name}.png"))
        picture = np.array(Image.open(masks / f"scenes/val/{name}.png"))
        truth = np.array(Image.open(masks / f"scenes/valannot/{name}.png"))
        height, width = truth.shape
        assert shown.shape == (height, 3 * width, 3)
        assert np.array_equal(shown[:, :width], picture)
        expected = np.where(truth[..., None] == VOID, 0, COLORS[np.where(truth == VOID, 0, truth)])
        assert np.array_equal(shown[:, width : 2 * width], expected)
        predicted = (shown[:, 2 * width :, None] == COLORS).all(-1)
        assert predicted.any(-1).all(), "every pixel has the colour of a class"
        labels = predicted.argmax(-1)
        counts = truth != VOID
        assert (labels == truth)[counts].mean() == pytest.approx(float(row["accuracy"]), abs=1e-6)
        ious = []
        for label in range(len(CLASSES)):
            found, there = (labels == label) & counts, (truth == label) & counts
            if (found | there).any():
                ious.append((found & there).sum() / (found | there).sum())
        assert np.mean(ious) == pytest.approx(float(row["mean_iou"]), abs=1e-6)


def test_the_worst_are_those_of_the_lowest_score_and_replace_what_was_there(masks, tmp_path):
    everything, out = tmp_path / "all", tmp_path / "worst"
    main(["eval", str(masks / "done"), "--pictures", str(everything)])
    for count in (4, 2):
        main(["eval", str(masks / "done"), "--pictures", str(out), "--worst", str(count)])
        assert read(out) == read(everything)[:count]
        assert len(list(out.glob("*.png"))) == count
    for row in read(out):
        name = f"{row['picture']}.png"
        assert (out / name).read_bytes() == (everything / name).read_bytes()


def test_two_processes_write_the_same_pictures(masks, tmp_path):
    for count in ((), ("--worst", "2")):
        one, two = tmp_path / f"one{len(count)}", tmp_path / f"two{len(count)}"
        main(["eval", str(masks / "done"), "--pictures", str(one), *count])
        together(tmp_path, 2, "-m", "switchnorm", "eval", str(masks / "done"), "--pictures", str(two), *count)
        assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in two.iterdir()}


def test_pictures_of_somebody_else_stay(masks, tmp_path, monkeypatch, capsys):
    scenes = masks / "scenes/val"
    before = {path.name: path.read_bytes() for path in scenes.iterdir()}
    assert "holds something else already; choose another folder" in fails(
        capsys, "eval", masks / "done", "--pictures", scenes
    )
    assert {path.name: path.read_bytes() for path in scenes.iterdir()} == before
    out = tmp_path / "shown"
    main(["eval", str(masks / "done"), "--pictures", str(out)])
    (out / "notes.txt").write_text("mine")
    assert "holds something else" in fails(capsys, "eval", masks / "done", "--pictures", out)
    for content in (b"", b"\xff\xfe", b"picture,mean_iou,accuracy\n\n"):
        other = tmp_path / f"other{len(content)}"
        other.mkdir()
        (other / "pictures.csv").write_bytes(content)
        assert "holds something else" in fails(capsys, "eval", masks / "done", "--pictures", other)
        assert (other / "pictures.csv").read_bytes() == content
    monkeypatch.chdir(tmp_path)
    assert "--pictures '.' holds something else" in fails(capsys, "eval", masks / "done", "--pictures", ".")


def test_a_failed_evaluation_leaves_the_earlier_pictures_as_they_were(masks, tmp_path, capsys):
    out = tmp_path / "shown"
    main(["eval", str(masks / "done"), "--pictures", str(out)])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    shutil.copytree(masks / "scenes", tmp_path / "damaged")
    (tmp_path / "damaged/val/val03.png").write_bytes(b"no picture")
    fails(capsys, "eval", masks / "done", "--pictures", out, "--data.root", tmp_path / "damaged")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "shown"]


def test_files_of_somebody_else_are_not_replaced(masks, digits, tmp_path, capsys):
    config = masks / "done/config.yaml"
    before = config.read_bytes()
    assert "holds something else already" in fails(capsys, "eval", masks / "done", "--confusion", config)
    assert config.read_bytes() == before
    (tmp_path / "notes.npz").write_text("mine")
    assert "holds something else already" in fails(capsys, "eval", digits, "--save", tmp_path / "notes.npz")
    assert (tmp_path / "notes.npz").read_text() == "mine"


def test_saved_logits_are_those_of_the_network_in_the_order_of_the_test_set(digits, tmp_path, capsys):
    file = tmp_path / "out.npz"
    main(["eval", str(digits), "--save", str(file), "--batch-size", "50"])
    assert f"{file}: logits, labels and names of 359 test pictures, and the 10 classes" in capsys.readouterr().out
    saved = np.load(file, allow_pickle=False)
    run = RunFolder.open(digits)
    dataset = create_dataset("digits")
    images, labels = next(iter(dataset.test_batches(batch_size=1000)))
    model = build_model(run.config(), 10)
    load_state(model, read_state(run.last), "run")
    with torch.no_grad():
        logits = model.eval()(images)
    np.testing.assert_allclose(saved["logits"], logits.numpy(), rtol=1e-4, atol=1e-5)
    assert np.array_equal(saved["labels"], labels.numpy())
    assert saved["names"].tolist() == [str(index) for index in range(359)]
    assert saved["classes"].tolist() == list(dataset.classes)
    accuracy = (saved["logits"].argmax(1) == saved["labels"]).mean()
    assert accuracy == pytest.approx(evaluate(run, run.last).metrics["val_accuracy"])


@pytest.mark.sweep
def test_two_processes_save_the_same_logits(digits, tmp_path):
    main(["eval", str(digits), "--save", str(tmp_path / "one.npz"), "--limit", "101"])
    evaluation = ("eval", str(digits), "--save", str(tmp_path / "two.npz"), "--limit", "101")
    together(tmp_path, 2, "-m", "switchnorm", *evaluation)
    one, two = (np.load(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert one["names"].tolist() == two["names"].tolist() == [str(index) for index in range(101)]
    assert np.array_equal(one["labels"], two["labels"])
    np.testing.assert_allclose(one["logits"], two["logits"], rtol=1e-4, atol=1e-5)


def test_names_are_those_of_files_and_a_damaged_one_is_left_out(tmp_path):
    draw = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 5)):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    (tmp_path / "data/val/cat/3.png").write_bytes(b"no picture")
    recipe = tmp_path / "folder.yaml"
    content = {
        "model": {"name": "cifar_resnet8"},
        "data": {"name": "folder", "root": str(tmp_path / "data"), "size": 32, "resize": 32, "workers": 0},
        "train": {"epochs": 1, "batch_size": 4, "device": "cpu"},
    }
    recipe.write_text(yaml.safe_dump(content))
    skip = ("--data.on_damaged", "skip")
    main(["train", str(recipe), *skip, "--out", str(tmp_path / "run")])
    main(["eval", str(tmp_path / "run"), "--save", str(tmp_path / "out.npz")])
    saved = np.load(tmp_path / "out.npz")
    expected = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]
    expected.remove("cat/3.png")
    assert saved["names"].tolist() == expected
    assert saved["labels"].tolist() == [0] * 4 + [1] * 5
    assert saved["classes"].tolist() == ["cat", "dog"]


@pytest.mark.parametrize("limit", [1, 5, 100, 10_000])
def test_a_limit_takes_the_first_pictures(digits, capsys, limit):
    main(["eval", str(digits), "--limit", str(limit)])
    assert f"on the {min(limit, 359)} test pictures" in capsys.readouterr().out


def test_weights_of_a_pair_predict_as_the_run_does(masks, tmp_path, capsys):
    last = masks / "done/checkpoints/last.ckpt"
    encoder, decoder = tmp_path / "encoder.pth", tmp_path / "decoder.pth"
    main(["convert", str(last), str(tmp_path / "whole.safetensors")])
    main(["convert", str(tmp_path / "whole.safetensors"), str(encoder), "--decoder", str(decoder)])
    pictures = masks / "scenes/test"
    main(["predict", str(masks / "done"), str(pictures), "--checkpoint", "last", "--out", str(tmp_path / "by_run")])
    classes = tmp_path / "classes.txt"
    classes.write_text("".join(f"{name}\n" for name in CLASSES))
    network = ("--model", "resnet18+c1_bilinear_deepsup", "--norm", "sn", "--classes", str(classes))
    shown = ("--scales", "40", "--data.longest", "64", "--data.ignore", f"[{VOID}]")
    for name, weights in (("pair", (encoder, decoder)), ("whole", (tmp_path / "whole.safetensors",))):
        out = tmp_path / name
        arguments = ["--weights", *map(str, weights), *network, *shown, str(pictures), "--out", str(out)]
        main(["predict", *arguments])
        assert "masks and overlays of 3 pictures, by" in capsys.readouterr().out
        for file in (tmp_path / "by_run").iterdir():
            assert (out / file.name).read_bytes() == file.read_bytes(), file.name


def test_classes_come_from_a_datasets_name_or_with_colours_from_a_file(masks, tmp_path):
    last = str(masks / "done/checkpoints/last.ckpt")
    classes = tmp_path / "classes.txt"
    classes.write_text("sky #0000ff\nground #00ff00\nbox #ff0000\n")
    picture = str(masks / "scenes/test/test00.png")
    network = ("--model", "resnet18+c1_bilinear_deepsup", "--norm", "sn")
    main(["predict", "--weights", last, *network, "--classes", str(classes), picture, "--out", str(tmp_path / "own")])
    mask = Image.open(tmp_path / "own/test00.png")
    used = {tuple(color) for color in np.array(mask.convert("RGB")).reshape(-1, 3).tolist()}
    assert used <= {(0, 0, 255), (0, 255, 0), (255, 0, 0)}

    torch.manual_seed(0)
    config = read_config(find_recipe("ade20k/resnet50_dilated8_c1_sn"), ["--model", "resnet18+c1_bilinear"])
    torch.save(build_model(config, 150).state_dict(), tmp_path / "ade.pth")
    out = tmp_path / "ade"
    arguments = ["--model", "resnet18+c1_bilinear", "--norm", "sn", "--classes", "ade20k", "--out", str(out)]
    main(["predict", picture, "--weights", str(tmp_path / "ade.pth"), *arguments, "--scales", "64"])
    numbers = np.array(Image.open(out / "test00.png"))
    assert 1 <= numbers.min() <= numbers.max() <= 150, "as ADE20K's masks number the classes"


def test_what_cannot_be_is_one_line(masks, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done, picture = masks / "done", masks / "scenes/test/test00.png"
    last = done / "checkpoints/last.ckpt"
    network = ("--model", "resnet18+c1_bilinear_deepsup", "--norm", "sn")
    for arguments, message in [
        (("eval", done, "--worst", "3"), "--worst changes --pictures; give that too, or leave it out"),
        (("eval", done, "--pictures", "out", "--worst", "0"), "--worst must be at least 1, got 0"),
        (("eval", done, "--pictures", "no/out"), "there is no folder 'no'"),
        (("eval", done, "--pictures", picture), "is a file; expected a folder"),
        (("eval", done, "--save", "out.npz"), "--save is for classification"),
        (("eval", digits, "--save", "out.npy"), "--save 'out.npy' must end with .npz, as 'out.npz'"),
        (("eval", digits, "--save", tmp_path), "is a folder; expected a file"),
        (("eval", digits, "--limit", "0"), "--limit must be at least 1, got 0"),
        (("eval", digits, "--limit", "some"), "--limit: invalid int value: 'some'"),
        (("predict",), "predict takes a run folder, an exported file or hf-hub:NAME, or --weights FILE"),
        (("predict", done), "predict needs pictures: files, or folders of files"),
        (("predict", done, picture, "--classes", "ade20k"), "--classes is for --weights"),
        (("predict", done, picture, "--batch-sise", "2"), "argument '--batch-sise' is unknown"),
        (("predict", "--weights", last, *network, "--classes", "camvid"), "predict needs pictures"),
        (("predict", picture, "--weights", last, *network, "--classes", "camwid"), "is no file and no dataset"),
        (("predict", picture, "--weights", last, *network, "--classes", "digits"), "for classification"),
        (("predict", picture, "--weights", last, *network, "--classes", "camvid", "--data", "ade20k"), "say the same"),
        (("predict", picture, "--weights", last, "--classes", "camvid"), "model.name"),
        (("predict", picture, "--weights", last, *network, "--classes", "camvid"), "CamVid has 11 classes"),
        (("predict", picture, "--weights", "none.pth", *network, "--classes", "camvid"), "none.pth"),
        (("predict", picture, "--weights", "a", "b", "c", *network, "--classes", "camvid"), "got 'c' as a third"),
        (("predict", picture, "--weights", last, "--checkpoint", "best", *network, "--classes", "camvid"), "leave one"),
    ]:
        assert message in fails(capsys, *arguments), arguments
        assert not list(tmp_path.iterdir()), arguments
