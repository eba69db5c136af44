"""Weights that a run keeps for good, and finding a run's checkpoints."""

import os
from pathlib import Path

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.runs.checkpoints import checkpoint_of
from switchnorm.runs.folder import RunFolder
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import inspect, resume, start
from switchnorm.weights import convert, read_checkpoint
from tests.training.trainings import StoppedError, stopping

FLAGS = (
    "--train.epoch_steps",
    "2",
    "--batch-size",
    "48",
    "--samples-per-gpu",
    "null",
    "--epochs",
    "4",
    "--norm",
    "sn",
    "--train.ema",
    "0.5",
)


@pytest.fixture
def run(recipe, tmp_path) -> RunFolder:
    config = read_config(recipe, (*FLAGS, "--train.snapshot_epochs", "2"))
    return start(config, tmp_path / "run", default=Path("x"), command=(), quiet=True)[0]


def test_every_so_many_epochs_the_evaluated_weights_are_kept(run):
    names = ("best.ckpt", "epoch-2.ckpt", "epoch-4.ckpt", "last.ckpt", "previous.ckpt")
    assert sorted(file.name for file in run.checkpoints.iterdir()) == sorted(names)
    rows = run.metrics()
    for epochs in (2, 4):
        file = checkpoint_of(run, f"epoch:{epochs}")
        assert file == run.snapshot(epochs) == run.checkpoints / f"epoch-{epochs}.ckpt"
        metrics = evaluate(run, file).metrics
        assert metrics["val_loss"] == pytest.approx(float(rows[epochs - 1]["val_loss"]), rel=1e-6)
        assert "optimizer_states" not in read_checkpoint(file).beside
        assert len(inspect(file)) == len(inspect(run.path))
    last = torch.load(run.last, weights_only=True)["state_dict"]
    kept = torch.load(run.snapshot(4), weights_only=True)["state_dict"]
    assert all(torch.equal(value, last[key]) for key, value in kept.items()), "the average's, as in last.ckpt"
    assert convert(run.snapshot(2), run.path / "two.safetensors").norm == "sn"


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("epoch:3", "has best, last, epoch:2, epoch:4"),
        ("epoch:x", "checkpoint 'epoch:x' must name a number of epochs of at least 1, as in 'epoch:10'"),
        ("epoch:", "must name a number of epochs"),
        ("epoch:0", "must name a number of epochs"),
        ("epoch:-1", "must name a number of epochs"),
        ("lst", "has best, last, epoch:2, epoch:4"),
    ],
)
def test_what_is_not_there_names_what_is(tmp_path, which, message):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    for name in ("last", "best", "epoch-2", "epoch-4"):
        (run.checkpoints / f"{name}.ckpt").touch()
    with pytest.raises(InputError) as caught:
        checkpoint_of(run, which)
    assert message in str(caught.value)


def test_snapshots_are_listed_in_the_order_of_epochs(tmp_path):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    for name in ("epoch-10", "epoch-9", "epoch-100"):
        (run.checkpoints / f"{name}.ckpt").touch()
    with pytest.raises(InputError, match="has epoch:9, epoch:10, epoch:100"):
        checkpoint_of(run, "last")
    with pytest.raises(InputError, match="has none yet"):
        checkpoint_of(RunFolder(tmp_path / "nothing"), "last")


def test_a_resumed_run_keeps_the_earlier_ones(recipe, tmp_path, monkeypatch):
    config = read_config(recipe, (*FLAGS, "--train.snapshot_epochs", "1"))
    with monkeypatch.context() as patched:
        patched.setattr(MidEpochCheckpoint, "on_train_batch_end", stopping(5, writes=False))
        with pytest.raises(StoppedError):
            start(config, tmp_path / "run", default=Path("x"), command=(), quiet=True)
    run = RunFolder(tmp_path / "run")
    before = {epochs: os.stat(run.snapshot(epochs)).st_mtime_ns for epochs in (1, 2)}
    assert not run.snapshot(3).exists()
    resume(run.path, quiet=True)
    assert {epochs: os.stat(run.snapshot(epochs)).st_mtime_ns for epochs in (1, 2)} == before
    assert run.snapshot(3).is_file()
    assert run.snapshot(4).is_file()
