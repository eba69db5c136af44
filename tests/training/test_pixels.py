"""Runs on pictures with other bands, more bits, or another way up than photographs have."""

import warnings

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

from switchnorm.cli import main
from switchnorm.config.recipe import evaluation_config, read_config
from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.runs.folder import RunFolder
from switchnorm.training import dry_run
from switchnorm.training.evaluate import evaluate, evaluate_weights
from tests.data.files.pictures import stored, write_turned
from tests.data.photos import real_data
from tests.training.scenes import VOID, write_scenes

MODEL = {"name": "resnet18_dilated16+c1_bilinear", "norm": "bn"}
TRAIN = {"epochs": 1, "batch_size": 4, "device": "cpu"}


def five_bands(path, orientation=1, scale=16):
    """A scene as a TIFF of five bands of 12 bits."""
    values = np.array(Image.open(path))[..., [0, 1, 2, 0, 1]].astype(np.uint16) * np.uint16(scale)
    tifffile.imwrite(
        path.with_suffix(".tif"),
        stored(values, orientation),
        photometric="minisblack",
        planarconfig="contig",
        extratags=[(274, 3, 1, orientation, True)],
    )
    path.unlink()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    where = tmp_path_factory.mktemp("pixels")
    root = write_scenes(where / "scenes", {"train": 8, "val": 4})
    for path in [*root.glob("train/*.png"), *root.glob("val/*.png")]:
        five_bands(path)
    data = {"name": "masks", "root": str(root), "ignore": [VOID], "bands": [0, 1, 2, 3, 4], "workers": 0}
    (where / "r.yaml").write_text(yaml.safe_dump({"model": MODEL, "data": data, "train": TRAIN}))
    main(["train", str(where / "r.yaml"), "--out", str(where / "run")])
    return where


def test_a_run_on_five_bands_of_12_bits_keeps_their_range(trained):
    run = RunFolder.open(trained / "run")
    assert run.config().data["range"] == [0, 4095]
    (row,) = run.metrics()
    measured = evaluate(run, run.last).metrics
    assert measured["val_mean_iou"] == pytest.approx(float(row["val_mean_iou"]), abs=1e-6)


def test_evaluation_of_turned_and_of_brighter_files_is_by_the_runs_own_rule(trained, tmp_path):
    root = write_scenes(tmp_path / "scenes", {"train": 8, "val": 4})
    for place, path in enumerate(sorted(root.glob("val/*.png"))):
        five_bands(path, place % 4 + 5)
    run = RunFolder.open(trained / "run")
    config = read_config(trained / "run/config.yaml", ["--data.root", str(root)])
    upright, turned = evaluate(run, run.last), evaluate(run, run.last, config=config)
    assert turned.metrics == upright.metrics
    bright = write_scenes(tmp_path / "bright", {"train": 1, "val": 4})
    for path in bright.glob("val/*.png"):
        five_bands(path, scale=64)
    config = read_config(trained / "run/config.yaml", ["--data.root", str(bright)])
    with pytest.warns(UserWarning, match=r"4 of 4 test pictures have numbers outside of data.range \[0, 4095\]"):
        evaluate(run, run.last, config=config)


def test_prediction_shows_the_network_the_same_pixels(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_scenes(tmp_path / "scenes", {"val": 1, "train": 1})
    (path,) = root.glob("val/*.png")
    five_bands(path)
    values = tifffile.imread(path.with_suffix(".tif"))
    for name, how in (("upright", 1), ("turned", 6)):
        tags = [(274, 3, 1, how, True)]
        tifffile.imwrite(
            f"{name}.tif", stored(values, how), photometric="minisblack", planarconfig="contig", extratags=tags
        )
    main(["predict", str(trained / "run"), "upright.tif", "turned.tif", "--out", "masks"])
    for kind in (".png", "_overlay.jpg"):
        upright, turned = (np.array(Image.open(f"masks/{name}{kind}")) for name in ("upright", "turned"))
        assert np.array_equal(upright, turned)


def test_a_network_of_torchvision_and_bands_is_refused_in_a_line(trained):
    with pytest.raises(InputError, match="'fcn_resnet50' takes pictures of 3 channels") as caught:
        dry_run(read_config(trained / "r.yaml", ["--model", "fcn_resnet50", "--norm", "bn"]))
    assert "\n" not in str(caught.value)


def test_a_photograph_classifier_takes_one_band_or_many(tmp_path):
    for split in ("train", "val"):
        for label in ("a", "b"):
            for number in range(2):
                path = tmp_path / split / label / f"{number}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = np.random.default_rng(number).random((6, 20, 24), np.float32) + 273
                tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate")
    data = {"name": "folder", "root": str(tmp_path), "size": 16, "resize": 18, "workers": 0}
    for model in ("cifar_resnet8", "timm:resnet10t", "resnetv1sn18"):
        for bands in ([5], [0, 1, 2, 3, 4, 5]):
            content = {"model": {"name": model, "norm": "gn"}, "data": {**data, "bands": bands}, "train": TRAIN}
            (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*data.range.*")
                assert np.isfinite(dry_run(read_config(tmp_path / "r.yaml")).loss)


def test_turned_copies_of_real_pictures_with_masks_are_scored_as_the_upright_ones(tmp_path):
    camvid, measured = real_data("camvid"), []
    flags = ["--model", MODEL["name"], "--data", "camvid", "--data.test_sides", "[120]", "--device", "cpu"]
    torch.manual_seed(0)
    torch.save(create_model(MODEL["name"], norm="bn", num_classes=11).state_dict(), tmp_path / "weights.pth")
    for name in ("upright", "turned"):
        for folder in ("val", "valannot"):
            (tmp_path / name / folder).mkdir(parents=True)
            for place, path in enumerate(sorted((camvid / folder).iterdir())[:4]):
                pixels, way = np.array(Image.open(path)), 1 if name == "upright" else 5 + place
                write_turned(tmp_path / name / folder / f"{path.stem}.png", pixels, way)
        config = evaluation_config([*flags, "--data.root", str(tmp_path / name), "--data.workers", "0"])
        measured.append(evaluate_weights([tmp_path / "weights.pth"], config).metrics)
    assert measured[0] == measured[1]
    assert measured[0]["val_loss"] > 0
