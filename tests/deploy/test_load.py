"""Whatever holds a network answers as the run's own evaluation does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_masks
from PIL import Image

import switchnorm
from switchnorm.cli import main
from switchnorm.config.task_spec import find_task, own_tasks
from switchnorm.deploy.answers import Detected
from switchnorm.deploy.networks import trained
from switchnorm.deploy.runtimes.safetensors_file import prepared
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from tests.data.photos import photo, write_photo
from tests.deploy.runs import Evaluation, pictures, write_run

PAINTING = "switchnorm.tasks.detection.painting"
#: Python that refuses some packages, and then asks a network about pictures.
_WITHOUT = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refusing())
import switchnorm
for what in sys.argv[4:]:
    net = switchnorm.load(what)
    (answer,) = net.predict([sys.argv[2]])
    print(f"{type(answer).__name__}: {answer}")
    if sys.argv[3]:
        from switchnorm.cli import main

        main(["predict", what, sys.argv[2], "--out", sys.argv[3]])
"""
#: All that the library needs but Pillow.
ALL = (
    "torch,torchvision,pytorch_lightning,torchmetrics,jsonargparse,yaml,tensorboard,rich,plotly,sklearn,"
    "faster_coco_eval,safetensors,scipy,onnx,onnxscript"
)
TRAINING = "pytorch_lightning,lightning_fabric,torchmetrics,tensorboard"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    return {task: write_run(folder / task, task) for task in ("classification", "segmentation", "detection")}


@pytest.fixture(scope="module")
def onnx(runs: dict[str, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return switchnorm.export(runs["classification"].path, tmp_path_factory.mktemp("onnx") / "digits.onnx").path


def without(packages: str, picture: Path, out: Path | str, *names: Path) -> str:
    """What networks answer, one after the other, in a process that has not some packages; files in `out` unless ""."""
    command = [sys.executable, "-c", _WITHOUT, packages, str(picture), str(out), *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def masks_of(found: Detected) -> np.ndarray:
    return np.asarray(found.masks)


def test_a_classifier_gives_the_runs_own_probabilities(runs, tmp_path):
    own, net = Evaluation(runs["classification"]), switchnorm.load(runs["classification"].path)
    assert (net.task, net.classes) == ("classification", tuple("0123456789"))
    for number, size in enumerate([(30, 24), (8, 8), (9, 40)]):
        write_photo(tmp_path / f"{number}.png", number, width=size[0], height=size[1])
        logits = own.logits(tmp_path / f"{number}.png").astype(np.float64)
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        found = net.predict(tmp_path / f"{number}.png")
        assert found.labels.tolist() == np.argsort(-shares).tolist()
        np.testing.assert_allclose(found.probabilities, np.sort(shares)[::-1], rtol=1e-5)
        assert found.classes == tuple(str(label) for label in found.labels)
    assert len(net.predict(tmp_path / "0.png", top=3).classes) == 3


def test_segmentation_gives_the_runs_own_labels(runs):
    """Over two sizes, mirrored, in windows, in blue, green and red."""
    own, net = Evaluation(runs["segmentation"]), switchnorm.load(runs["segmentation"].path)
    for path in pictures(runs["segmentation"])[:2]:
        found = net.predict(path)
        assert np.array_equal(found.labels, own.labels(path))
        assert np.array_equal(np.array(found.mask()), found.labels)  # this data numbers its classes from 0
    assert len(np.unique(found.labels)) > 1
    own.task.inference = type(own.task.inference)()
    assert np.array_equal(net.predict(path, flip=False, window=None).labels, own.labels(path))
    assert np.array_equal(net.predict(path).labels, found.labels)  # what was asked once does not stay


def test_a_large_picture_is_answered_in_parts(runs, monkeypatch):
    from switchnorm.data.preparation import tiling

    net = switchnorm.load(runs["segmentation"].path)
    whole = net.predict(photo(3, 150, 90), scales=[90], flip=False).labels
    for key, value in (("WHOLE", 2**12), ("CORE", 64), ("MARGIN", 8)):
        monkeypatch.setattr(tiling, key, value)
    with pytest.warns(UserWarning, match="picture 0 is predicted in 6 parts"):
        parts = net.predict(photo(3, 150, 90), scales=[90], flip=False).labels
    assert parts.shape == whole.shape
    assert (parts == whole).mean() > 0.5  # a normalizer that sees less of the picture says something else


def test_detection_gives_the_runs_own_boxes_and_masks(runs):
    own, net = Evaluation(runs["detection"]), switchnorm.load(runs["detection"].path)
    total = 0
    for path in pictures(runs["detection"]):
        expected, found = own.found(path), net.predict(path)
        total += len(found)
        for name in ("boxes", "labels", "scores"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
        assert expected.masks is not None
        for mask, run_lengths in zip(found.masks, expected.masks, strict=True):
            assert np.array_equal(mask, coco_masks.decode(run_lengths))
        assert found.names == tuple(net.classes[label - 1] for label in found.labels)
        assert masks_of(found).shape == (len(found), *found.size)
    assert total > 5
    best = net.predict(path, score_threshold=float(found.scores[1]), detections=1)
    assert np.array_equal(best.boxes, found.boxes[:1])
    assert len(net.predict(path)) == len(found)  # what was asked once does not stay


def test_a_file_of_onnx_is_run_without_torch(runs, onnx, tmp_path):
    write_photo(tmp_path / "a.png", 1)
    said = without(f"torch,torchvision,{TRAINING}", tmp_path / "a.png", tmp_path / "out", onnx)
    own = switchnorm.load(runs["classification"].path).predict(tmp_path / "a.png")
    assert said.splitlines()[0] == f"Classified: {own}"
    assert f"likeliest classes of 1 picture, by {onnx}" in said
    head, row = (tmp_path / "out/predictions.csv").read_text().splitlines()
    assert head.startswith("picture,class_1,probability_1,class_2")
    assert row.split(",")[1::2] == list(own.classes[:5])
    shares = [float(share) for share in row.split(",")[2::2]]
    np.testing.assert_allclose(shares, own.probabilities[:5], atol=2e-6)


def test_to_ask_a_file_of_onnx_needs_numpy_pillow_and_its_runtime_alone(runs, onnx, tmp_path):
    write_photo(tmp_path / "a.png", 1)
    said = without(ALL, tmp_path / "a.png", "", onnx)
    assert said.strip() == f"Classified: {switchnorm.load(onnx).predict(tmp_path / 'a.png')}"


def test_what_answers_pictures_needs_numpy_and_pillow_alone():
    modules = [spec.answering.partition(":")[0] for spec in map(find_task, own_tasks())]
    program = _WITHOUT.partition("import switchnorm\n")[0] + f"import {', '.join([*modules, PAINTING])}"
    done = subprocess.run([sys.executable, "-c", program, ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("file", ["config.yaml", "model.safetensors"])
def test_what_was_trained_says_in_a_line_that_it_needs_torch(tmp_path, monkeypatch, file):
    (tmp_path / file).touch()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(
        InputError, match=r"needs torch, which is not installed; run `pip install 'switchnorm\[train\]'`"
    ):
        switchnorm.load(tmp_path)


def test_a_run_and_its_weights_are_used_without_what_trains(runs, tmp_path):
    weights = tmp_path / "net.safetensors"
    run = trained(runs["detection"].path)
    weights.write_bytes(prepared(run.model, run.description)[0])
    path = pictures(runs["detection"])[0]
    said = without(TRAINING, path, tmp_path / "out", runs["detection"].path, weights)
    first, second = (line for line in said.splitlines() if line.startswith("Detected"))
    assert first == second == f"Detected: {switchnorm.load(weights).predict(path)}"


@pytest.mark.sweep
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2", ".torchscript"])
@pytest.mark.parametrize("task", ["classification", "segmentation", "detection"])
def test_every_file_answers_as_the_run_does(runs, tmp_path, task, suffix):
    run = runs[task]
    file = switchnorm.export(run.path, tmp_path / f"net{suffix}").path
    net, own = switchnorm.load(file), switchnorm.load(run.path)
    assert net.description.classes == own.description.classes
    paths = pictures(runs["segmentation"] if task == "classification" else run)
    for path in paths:
        found, expected = net.predict(path), own.predict(path)
        if task == "classification":
            assert found.classes == expected.classes
            np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
        elif task == "segmentation":
            assert (found.labels == expected.labels).mean() > 0.999
        else:
            assert found.names == expected.names
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            assert (masks_of(found) == masks_of(expected)).mean() > 0.999
    if suffix in (".onnx", ".xml"):
        said = without("torch,torchvision", paths[0], tmp_path / "out", file)
        assert said.splitlines()[0].partition(":")[0] == type(expected).__name__


def test_pictures_may_be_given_in_any_way(runs, tmp_path):
    net = switchnorm.load(runs["classification"].path)
    picture = photo(2)
    for number in range(3):
        write_photo(tmp_path / f"in/{number}.png", number)
    array = np.array(picture)
    expected = net.predict(tmp_path / "in/2.png").probabilities
    for given in (str(tmp_path / "in/2.png"), picture, picture.convert("RGBA"), array, array.transpose(2, 0, 1)):
        assert np.array_equal(net.predict(given).probabilities, expected)
    grey = picture.convert("L")
    for given in (grey, np.array(grey), np.array(grey)[None], np.array(grey)[..., None]):
        assert np.array_equal(net.predict(given).probabilities, net.predict(grey.convert("RGB")).probabilities)
    several = net.predict([tmp_path / "in", picture, tmp_path / "in/0.png"])
    assert len(several) == 4  # each file once
    assert np.array_equal(several[3].probabilities, expected)
    assert [each.best for each in net.predict(tmp_path / "in")] == [each.best for each in several[:3]]
    lying = Image.fromarray(np.rot90(array, 1).copy())
    lying.getexif()[0x0112] = 6
    lying.save(tmp_path / "lying.png", exif=lying.getexif())
    with Image.open(tmp_path / "lying.png") as opened:
        assert np.array_equal(net.predict(opened).probabilities, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone.png", "picture 'gone.png' is missing"),
        ([], "no pictures were given"),
        (7, "int is no picture"),
        ([7], "picture 0 is int; expected a file, a folder"),
        (np.zeros((4, 4, 3), np.float32), "picture 0 is an array of float32; expected uint8"),
        (np.zeros((4, 4, 7), np.uint8), r"picture 0 is an array of shape \(4, 4, 7\); expected \(H, W, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"picture 0 is an array of shape \(0, 4, 3\)"),
        (Image.new("I;16", (8, 8)), "picture 0 has mode 'I;16'; expected 8 bits"),
        (__file__, f"cannot read {__file__}"),
    ],
)
def test_what_is_no_picture_is_refused(runs, given, message):
    with pytest.raises(InputError, match=message):
        switchnorm.load(runs["classification"].path).predict(given)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("classification", {"topp": 1}, "setting of classification 'topp' is unknown; did you mean 'top'"),
        ("classification", {"top": 0}, "top must be at least 1, got 0"),
        ("segmentation", {"window": 65}, "window 65 is no multiple of 32 pixels; the nearest is 64"),
        ("segmentation", {"scales": [0]}, "scales must be at least 1, got 0"),
        ("detection", {"score_threshold": 2}, "score_threshold must be at most 1, got 2"),
        ("detection", {"side": 0}, "side must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(runs, task, settings, message):
    with pytest.raises(InputError, match=message):
        switchnorm.load(runs[task].path).predict(photo(0), **settings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' names nothing"),
        ("nothing/here", "'nothing/here' does not exist; .* on the hub it is called hf-hub:nothing/here"),
        ("nothing.onnx", "'nothing.onnx' does not exist"),
        ("empty", "folder 'empty' has neither config.yaml, as runs have, nor model.safetensors"),
        ("a.pth", "'a.pth' is in no run, and weights alone do not say how pictures are shown to them"),
        ("a.onx", "suffix '.onx' is unknown; did you mean '.onnx'"),
        ("a.jpg", "'a.jpg' is a picture; what is to look at it comes first"),
        ("hf-hub:name", "'name' is no name of a repository"),
        ("https://huggingface.co/me/x", "does not exist; .* on the hub it is called hf-hub:me/x"),
        ("a" * 300, "does not exist"),
        ("~nobody/x", "'~nobody/x' does not exist"),
        ("part/config.json", "is a part of a folder that holds a network; the nearest is 'part'"),
    ],
)
def test_what_holds_no_network_is_refused(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "part").mkdir()
    (tmp_path / "part/config.json").write_text("{}")
    for file in ("a.pth", "a.onx", "a.jpg"):
        (tmp_path / file).write_bytes(b"nothing")
    with pytest.raises(InputError, match=message):
        switchnorm.load(name)
    with pytest.raises(SystemExit) as ended:
        main(["predict", name, "picture.png"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.onx", "a.pth", "empty", "part"]


def test_a_checkpoint_of_a_run_is_opened_and_one_that_is_not_there_named(runs):
    run = runs["classification"]
    assert switchnorm.load(run.best).description == switchnorm.load(run.path).description
    with pytest.raises(InputError, match=r"checkpoint 'last' does not exist; .* has best"):
        switchnorm.load(run.path, checkpoint="last")
    with pytest.raises(InputError, match="device 'cua' is not available here; choose from cpu, auto"):
        switchnorm.load(run.path, device="cua")


def test_what_is_no_name_or_has_no_checkpoints_is_refused(runs, onnx):
    for what in (None, 3, b"abc"):
        with pytest.raises(InputError, match="names nothing; expected a run, a folder"):
            switchnorm.load(what)
    for what in (onnx, runs["classification"].best):
        with pytest.raises(InputError, match=r"checkpoint 'last' is one of a run's, and .* is no run's folder"):
            switchnorm.load(what, checkpoint="last")


def test_a_dataset_of_somebodys_own_shows_its_pictures_itself(runs, monkeypatch, tmp_path):
    from switchnorm.data import Digits

    expected = switchnorm.load(runs["classification"].path).predict(photo(1).convert("L"))
    shown = Digits.shown

    def mirrored(self, picture):
        return shown(self, picture).flip(2)

    monkeypatch.setattr(Digits, "shown", mirrored)
    net = switchnorm.load(runs["classification"].path)
    assert net.description.preparation is None
    mirror = photo(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    np.testing.assert_allclose(net.predict(mirror).probabilities, expected.probabilities, atol=0.05)
    with pytest.raises(InputError, match="picture 0 is an array, of which Digits says nothing"):
        net.predict(np.zeros((8, 8, 3), np.uint8))


def test_flags_of_another_task_are_named(onnx, tmp_path, capsys):
    write_photo(tmp_path / "a.png", 1)
    for flags, said in (
        (("--flip",), "--flip is for segmentation"),
        (("--checkpoint", "last"), "checkpoint 'last' is one of a run's"),
        (("--shwon", "1"), "argument '--shwon' is unknown; did you mean '--shown'"),
        (("--device", "cuda"), "cuda"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(onnx), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *flags])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
