"""Running statistics of several real processes, which a run evaluates and keeps as their mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from switchnorm.runs.folder import RunFolder
from switchnorm.tasks.process_statistics import KEY
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import resume
from switchnorm.weights import read_checkpoint
from tests.forked import together
from tests.training import trainings
from tests.training.test_resume import CLOCK, assert_same_run, rows
from tests.training.test_segmentation import write_recipe

#: Two epochs of three steps; the last test batch holds a single picture, so that shares of it are empty.
CONFIG = {
    "model": {"name": "digits_resnet9"},
    "data": {"name": "digits"},
    "train": {"epochs": 2, "epoch_steps": 3, "batch_size": 48, "eval_batch_size": 179, "precision": "64"},
    "optimizer": {"lr": 0.05},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "train": {**CONFIG["train"], "device": "cpu"}}))
    return path


def on_processes(folder: Path, world: int, recipe: Path, cases, *step: int) -> None:
    arguments = (trainings.__file__, recipe, folder, json.dumps(cases), *map(str, step))
    done = together(folder.parent, world, *arguments)
    assert (done.returncode == 0) == (not step), done.stderr


def assert_equal_but_for_rounding(one: RunFolder, other: RunFolder) -> None:
    for file in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(run.checkpoints / file, weights_only=True) for run in (one, other))
        assert a.keys() == b.keys()
        for state in a.keys() & {"state_dict", "trained_state_dict"}:
            assert a[state].keys() == b[state].keys()
            for key, value in a[state].items():
                place = f"{file}: {state}: {key}"
                torch.testing.assert_close(
                    b[state][key], value, rtol=1e-9, atol=1e-11, msg=lambda text, place=place: f"{place}: {text}"
                )
    for mine, theirs in zip(one.metrics(), other.metrics(), strict=True):
        for name in mine.keys() - {CLOCK}:
            # Losses are summed in float32.
            assert float(theirs[name] or 0) == pytest.approx(float(mine[name] or 0), rel=1e-6), name
    found = [json.loads((run.path / "evaluated.json").read_text()) for run in (one, other)]
    for statistics in trainings.STATISTICS:
        assert found[1][statistics] == pytest.approx(found[0][statistics], rel=1e-6)
    assert found[0]["running"]["val_loss"] == pytest.approx(float(one.metrics()[-1]["val_loss"]), rel=1e-6)


#: Ghost batches of 8 inside of a process make statistics of 8 samples in any number of processes.
CASES = {
    "bn": ("--norm", "bn"),
    "sn": ("--norm", "sn", "--train.ema", "0.7"),
    "ssn": ("--norm", "ssn"),
    "inside": ("--norm", "bn", "--samples-per-gpu", "8"),
    "calibrated": ("--norm", "ibn", "--train.calibrate", "2", "--train.ema", "0.5"),
    "all": ("--norm", "bn", "--optimizer.momentum", "0.5", "--train.calibrate", "4"),
}


@pytest.mark.parametrize(
    ("world", "names"), [(2, tuple(CASES)), pytest.param(3, ("bn", "sn", "ssn"), marks=pytest.mark.sweep)]
)
def test_processes_train_and_evaluate_as_ghost_batches_of_one(recipe, tmp_path, world, names):
    cases = {name: CASES[name] for name in names}
    on_processes(tmp_path / "many", world, recipe, cases)
    share = ("--samples-per-gpu", str(48 // world))
    trainings.train_all(recipe, tmp_path / "one", {name: (*share, *flags) for name, flags in cases.items()})
    for name in names:
        assert_equal_but_for_rounding(RunFolder(tmp_path / "one" / name), RunFolder(tmp_path / "many" / name))


def test_processes_segment_as_ghost_batches_of_one(tmp_path):
    recipe = write_recipe(tmp_path)
    flags = ("--precision", "64", "--epochs", "1", "--train.ema", "0.6", "--train.eval_batch_size", "3")
    on_processes(tmp_path / "many", 2, recipe, {"run": (*flags, "--samples-per-gpu", "null")})
    trainings.train_all(recipe, tmp_path / "one", {"run": flags})
    one, many = (RunFolder(tmp_path / name / "run") for name in ("one", "many"))
    assert_equal_but_for_rounding(one, many)
    assert (one.path / "confusion.csv").read_text() == (many.path / "confusion.csv").read_text()


@pytest.mark.sweep
def test_processes_that_are_killed_end_as_those_that_were_not(recipe, tmp_path):
    # BCN normalizes by each process's own statistics in training too, so that all numbers depend on them.
    flags = ("--train.checkpoint_minutes", "0", "--train.ema", "0.7", "--train.calibrate", "1", "--norm", "bcn")
    on_processes(tmp_path, 2, recipe, {"reference": flags, "killed": flags}, 5)
    killed = RunFolder(tmp_path / "killed")
    interrupted = torch.load(killed.last, weights_only=True)
    assert interrupted["global_step"] == 5
    for state in ("state_dict", "trained_state_dict"):
        own = interrupted[KEY][state]
        assert own.keys() == {key for key in interrupted[state] if "running" in key}
        for key, each in own.items():
            assert not torch.equal(*each), "two processes see different samples"
            torch.testing.assert_close(interrupted[state][key], each.mean(0))
    # Whoever reads the checkpoint takes the mean, and is told of the rest by name alone.
    assert KEY in read_checkpoint(killed.last).beside
    assert evaluate(killed, killed.last).metrics["val_loss"] > 0
    shutil.copytree(killed.path, tmp_path / "alone")

    on_processes(tmp_path, 2, recipe, {"killed": flags})
    assert_same_run(tmp_path / "reference", tmp_path / "killed")
    assert KEY not in torch.load(killed.last, weights_only=True), "all processes have the same after an epoch"

    _, result = resume(tmp_path / "alone", quiet=True)
    assert len(rows(tmp_path / "alone/metrics.csv")) == 2
    assert 0 < result["val_accuracy"] < 1
