"""A run knows its classes by name: other orders, subsets and spellings give its numbers, other classes are refused."""

import json
import shutil
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.cli import main
from switchnorm.config.recipe import evaluation_config, read_config
from switchnorm.data import Digits, register
from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.registry import _CLASSES
from switchnorm.deploy.predict import predict_pictures
from switchnorm.errors import InputError
from switchnorm.report import write
from switchnorm.runs.folder import RunFolder
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.evaluate import evaluate, evaluate_weights
from switchnorm.training.launch import inspect, resume, start
from switchnorm.training.words import evaluation
from switchnorm.weights import convert, load_state, read_checkpoint
from tests.data.photos import write_tree
from tests.training.photo_runs import forget, recipe_for, train
from tests.training.scenes import CLASSES as THINGS
from tests.training.scenes import VOID, write_scenes
from tests.training.test_resume import assert_same_run
from tests.training.trainings import StoppedError, stopping

QUICK = ("--epochs", "1", "--train.epoch_steps", "1")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run on photographs, and one on scenes; tests copy what they change."""
    base = tmp_path_factory.mktemp("runs")
    photos = write_tree(base / "photos", train=4, val=3)
    train(recipe_for(photos, base), base / "run", *QUICK, "--train.snapshot_epochs", "1")
    scenes = write_scenes(base / "scenes", {"train": 4, "val": 3})
    (scenes / "classes.txt").write_text("sky #0000ff\nground #00ff00\nbox #ff0000\n")
    recipe = recipe_for(
        scenes,
        base,
        model={"name": "resnet18_dilated16+c1_bilinear", "norm": "bn"},
        data={"name": "masks", "root": str(scenes), "ignore": [VOID], "workers": 0},
    )
    train(recipe, base / "scenes-run", *QUICK, "--batch-size", "2")
    return base


@pytest.fixture
def copied(folders, tmp_path):
    """Both, where this test may change them; the data is where it was."""
    return shutil.copytree(folders, tmp_path / "runs")


def found(run, root=None, checkpoint="last"):
    """What an evaluation measures, and the lines before the result."""
    run = RunFolder(run)
    config = read_config(run.config_file, [] if root is None else ["--data.root", str(root)])
    result = evaluate(run, getattr(run, checkpoint), config=config)
    return result.metrics, evaluation("it", result)[:-1]


def test_what_a_run_keeps_of_its_classes(folders):
    for run, names in (("run", ["cat", "dog", "fox"]), ("scenes-run", list(THINGS))):
        record = json.loads((folders / run / "run.json").read_text())
        assert record["classes"] == names
        for path in (folders / run / "checkpoints").glob("*.ckpt"):
            assert torch.load(path, weights_only=True)["classes"] == names, path
    assert record["class_colors"] == ["#0000ff", "#00ff00", "#ff0000"]
    assert {path.name for path in (folders / "run/checkpoints").iterdir()} == {"last.ckpt", "best.ckpt", "epoch-1.ckpt"}


def test_the_data_of_the_run_has_nothing_to_be_said(folders):
    assert len(found(folders / "run")[1]) == 2
    assert found(folders / "scenes-run")[1][0].startswith("it on the 3 test pictures")


def test_a_folder_that_is_renamed_is_refused_by_name(copied):
    (copied / "photos/val/cat").rename(copied / "photos/val/zebra")
    with pytest.raises(InputError, match=r"class of .*val 'zebra' is unknown") as caught:
        found(copied / "run", copied / "photos")
    assert "cat, dog, fox" in str(caught.value)
    assert "give this one the name that it had when the run began" in str(caught.value)
    (copied / "photos/val/zebra").rename(copied / "photos/val/cat")
    (copied / "photos/val/dog").rename(copied / "photos/val/dogs")
    with pytest.raises(InputError, match="did you mean 'dog'"):
        found(copied / "run", copied / "photos")


def test_a_subset_of_the_classes_is_mapped_by_name(copied):
    run, root = copied / "run", copied / "photos"
    shutil.rmtree(root / "train")
    whole, _ = found(run, root)
    shutil.rmtree(root / "val/cat")
    part, lines = found(run, root)
    assert lines[:2] == [
        "val has no picture of class 'cat'",
        "labels are mapped by name to the run's 3 classes (dog 0 -> 1, fox 1 -> 2)",
    ]
    write_tree(copied / "again", train=1, val=3)
    shutil.rmtree(root / "val")
    shutil.copytree(copied / "again/val/cat", root / "val/cat")
    cats, _ = found(run, root)
    for name in ("val_loss", "val_accuracy"):
        assert (3 * cats[name] + 6 * part[name]) / 9 == pytest.approx(whole[name], rel=1e-5)


@pytest.mark.parametrize("named", [True, False])
def test_lists_with_other_numbers_are_mapped_by_the_folders_that_they_name(copied, named):
    run, root = copied / "run", copied / "photos"
    expected, _ = found(run, root)
    numbers = {"fox": 0, "cat": 1, "dog": 2} if named else {"cat": 0, "dog": 1, "fox": 2}
    paths = sorted((root / "val").rglob("*.jpg"))
    if not named:
        for path in paths:
            path.rename(root / "val" / f"{path.parent.name}{path.name}")
    name = (lambda path: f"{path.parent.name}/{path.name}") if named else (lambda path: path.parent.name + path.name)
    (root / "val.txt").write_text("".join(f"{name(path)} {numbers[path.parent.name]}\n" for path in paths))
    metrics, lines = found(run, root)
    assert metrics["val_accuracy"] == expected["val_accuracy"]
    assert metrics["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
    if named:
        assert lines[0].startswith("labels are mapped by name to the run's 3 classes (fox 0 -> 2, cat 1 -> 0, dog 2 ->")
    else:
        assert lines[0] == f"labels of {root / 'val.txt'} are taken on trust: nothing names them"


def test_a_reversed_list_of_classes_gives_the_same_numbers(copied):
    run, root = copied / "scenes-run", copied / "scenes"
    expected, _ = found(run, root)
    (root / "classes.txt").write_text("box\nground\nsky\n")
    for path in root.glob("*annot/*.png"):
        turn(path)
    metrics, lines = found(run, root)
    assert metrics == expected
    assert lines[0] == "labels are mapped by name to the run's 3 classes (box 0 -> 2, sky 2 -> 0)"
    rows = "\n".join(lines)
    assert rows.index("sky") < rows.index("ground")


def turn(path) -> None:
    """Number the classes of a mask from the last to the first."""
    labels = np.asarray(Image.open(path))
    Image.fromarray(np.where(labels == VOID, VOID, 2 - np.minimum(labels, 2)).astype(np.uint8)).save(path)


def test_masks_of_some_classes_and_of_others(copied):
    run, root = copied / "scenes-run", copied / "scenes"
    (root / "classes.txt").write_text("box\nground\n")
    with pytest.raises(InputError, match="expected the numbers 0 to 1 of the classes"):
        found(run, root)  # there is a third number in the masks
    (root / "classes.txt").write_text("box\nground\nsea\n")
    with pytest.raises(InputError, match=r"class of .*classes.txt 'sea' is unknown; did you mean|choose from sky"):
        found(run, root)


def test_accents_may_be_spelled_in_both_ways(tmp_path):
    names = [unicodedata.normalize("NFC", name) for name in ("café", "thé")]
    photos = write_tree(tmp_path / "photos", train=1, val=1, classes=names)
    run = train(recipe_for(photos, tmp_path), tmp_path / "run", *QUICK, "--batch-size", "2")
    expected, _ = found(run.path)
    for path in list(photos.glob("*/*")):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    assert not {path.name for path in photos.glob("*/*")} & set(names)
    metrics, lines = found(run.path)
    assert metrics == expected
    assert lines[0] == "it on the 2 test pictures of folder"
    run.update_record(status="running")
    resume(run.path, quiet=True)


def test_a_resumed_run_trains_on_the_same_labels(folders, tmp_path):
    """Where masks number the classes the other way round, and their list says so."""
    base = shutil.copytree(folders, tmp_path / "runs")
    flags = ("--data.root", str(base / "scenes"), "--epochs", "2", "--train.epoch_steps", "1", "--batch-size", "2")
    config = read_config(base / "scenes-run/config.yaml", flags)
    reference, _ = start(config, base / "reference", default=base, command=(), quiet=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MidEpochCheckpoint, "on_train_batch_end", stopping(2, writes=False))
        with pytest.raises(StoppedError):
            start(config, base / "stopped", default=base, command=(), quiet=True)
    (base / "scenes/classes.txt").write_text("box\nground\nsky\n")
    for path in (base / "scenes").glob("*annot/*.png"):
        turn(path)
    resume(base / "stopped", quiet=True)
    assert_same_run(reference.path, base / "stopped")
    (base / "scenes/classes.txt").write_text("box\nsky\n")
    (base / "stopped/run.json").write_text(json.dumps({**reference.record(), "status": "running"}))
    with pytest.raises(InputError, match=r"lacks 1 of the run's 3 classes \(ground\)"):
        resume(base / "stopped", quiet=True)


def test_a_class_without_training_pictures_is_refused_where_training_needs_it(copied):
    (copied / "run/run.json").write_text(json.dumps({**RunFolder(copied / "run").record(), "status": "running"}))
    shutil.rmtree(copied / "photos/train/dog")
    assert found(copied / "run", copied / "photos")[0]
    with pytest.raises(InputError, match=r"has no picture of 1 of the run's 3 classes \(dog\)"):
        resume(copied / "run", ["--data.root", str(copied / "photos")], quiet=True)


def test_looking_and_predicting_need_no_data(copied, monkeypatch, tmp_path):
    """Nor the folder that the run was begun in."""
    for run in ("run", "scenes-run"):
        config = copied / run / "config.yaml"
        config.write_text(config.read_text().replace(RunFolder(copied / run).config().data["root"], "gone"))
    monkeypatch.chdir(tmp_path)
    moved = (copied / "run").rename(tmp_path / "moved")
    assert inspect(moved)
    assert inspect(moved / "checkpoints/best.ckpt")
    write([moved], tmp_path / "page.html")
    run = RunFolder(copied / "scenes-run")
    file = read_checkpoint(run.best)
    predict_pictures(
        run.config(),
        lambda model: load_state(model, file.state, "it"),
        [copied / "scenes/val/val00.png"],
        tmp_path / "out",
        file.classes,
    )
    main(
        [
            *("predict", str(copied / "scenes/val/val00.png"), "--weights", str(run.best), "--device", "cpu"),
            *("--model", "resnet18_dilated16+c1_bilinear", "--norm", "bn", "--out", "by-weights"),
        ]
    )
    for out in ("out", "by-weights"):
        mask = Image.open(tmp_path / out / "val00.png")
        assert mask.getpalette()[:9] == [0, 0, 255, 0, 255, 0, 255, 0, 0]


def test_a_run_from_before_takes_the_order_of_its_data_and_says_so(copied, capsys):
    run = RunFolder(copied / "run")
    chosen = inspect(run.path)
    forget(run)
    main(["predict", str(run.path), str(copied / "photos/val/cat/0.jpg"), "--data.root", str(copied / "photos")])
    said = f"run {str(run.path)!r} names no classes: that they have the order of this data is taken on trust\n"
    assert capsys.readouterr().out.startswith(said)
    run.config_file.write_text(run.config_file.read_text().replace(run.config().data["root"], "gone"))
    for one, other in zip(inspect(run.path), chosen, strict=True):
        assert one[:2] == other[:2]
        assert one.mean + one.var == pytest.approx(other.mean + other.var, abs=1e-6)


def test_weights_of_a_run_are_evaluated_by_its_names(copied, tmp_path):
    """Also after they were converted."""
    root = copied / "photos"
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val/cat")
    flags = ["--data.size=16", "--data.resize=20", "--data.workers=0", "--model=cifar_resnet8", "--norm=ssn"]
    config = evaluation_config([*flags, "--data=folder", f"--data.root={root}", "--device=cpu"])
    weights = tmp_path / "best.safetensors"
    convert(copied / "run/checkpoints/best.ckpt", weights)
    result = evaluate_weights([weights], config)
    assert result.notes[0].startswith("labels are mapped by name to the run's 3 classes (dog 0 -> 1, fox 1 -> 2)")
    assert result.metrics == pytest.approx(found(copied / "run", root)[0], rel=1e-5)


def test_checkpoint_and_record_that_disagree(copied):
    RunFolder(copied / "run").update_record(classes=["a", "b", "c"])
    with pytest.raises(InputError, match="the checkpoint name other classes"):
        found(copied / "run")


@pytest.mark.parametrize(
    "entries",
    [
        {"classes": "cat"},
        {"classes": []},
        {"classes": ["cat", 3, "fox"]},
        {"classes": ["cat", "dog\x1b[2J", "fox"]},
        {"classes": ["cat", "d" * 200_000, "fox"]},
        {"class_colors": ["red", "green", "blue"]},
        {"class_colors": ["#000000"]},
    ],
)
def test_a_damaged_record_is_named(copied, entries):
    RunFolder(copied / "run").update_record(**entries)
    with pytest.raises(InputError, match=r"run.json is damaged: expected a (list of names|colour)"):
        found(copied / "run")


def test_a_warm_start_takes_rows_by_name(copied, capsys):
    root = copied / "photos"
    (root / "train/dog").rename(root / "train/ant")
    (root / "val/dog").rename(root / "val/ant")
    shutil.copytree(root / "train/cat", root / "train/zebra")
    weights = copied / "run/checkpoints/best.ckpt"
    recipe = recipe_for(root, copied)
    lr = ("--lr", "0", "--train.warm_start", str(weights))
    run = train(recipe, copied / "new", *QUICK, *lr, "--optimizer.weight_decay", "0")
    theirs, ours = read_checkpoint(weights).state["fc.weight"], read_checkpoint(run.last).state["fc.weight"]
    names = run.record()["classes"]
    assert names == ["ant", "cat", "fox", "zebra"]
    assert torch.equal(ours[names.index("cat")], theirs[0])
    assert torch.equal(ours[names.index("fox")], theirs[2])
    assert not any(torch.equal(ours[0], row) for row in theirs)
    said = run.record()["warm_start"]["classes"]
    assert said == "2 of 4 classes are taken over by name; 2 begin anew (ant, zebra)"


@pytest.mark.usefixtures("own_registry")
def test_a_dataset_of_the_users_own_is_held_against_the_run(recipe, tmp_path):
    @dataclass(frozen=True)
    class Named(Digits):
        classes: ClassVar[tuple[str, ...]] = tuple("abcdefghij")

    register("named", Named)
    run, _ = start(
        read_config(recipe, [*QUICK, "--data", "named"]), tmp_path / "run", default=tmp_path, command=(), quiet=True
    )
    assert run.record()["classes"] == list("abcdefghij")
    assert evaluate(run, run.last).notes == ()
    Named.classes = tuple("bacdefghij")
    with pytest.raises(InputError, match=r"Named has 10 classes \(b, a, c, ... from 0 on\), and the run 10 \(a, b"):
        evaluate(run, run.last)


def test_every_dataset_says_whether_its_classes_are_fixed():
    fixed = {name for name, cls in _CLASSES.items() if cls.fixed_classes is True or isinstance(cls.classes, tuple)}
    assert fixed == set(_CLASSES) - {"folder", "masks", "coco", "voc", "yolo"}
    assert all(issubclass(cls, Dataset) for cls in _CLASSES.values())
