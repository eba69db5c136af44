"""Statistics that are averaged anew before each validation, and training that goes on as if they were not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from switchnorm import layers
from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.surgery import calibrate
from switchnorm.training import dry_run
from switchnorm.training.build import build_model, prepare, training_batches
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import resume, start
from switchnorm.weights import load_state
from tests.training.test_resume import assert_same_run, rows
from tests.training.trainings import StoppedError, stopping

FLAGS = (
    *("--epochs", "2", "--train.epoch_steps", "3", "--data.augment", "true"),
    *("--batch-size", "48", "--samples-per-gpu", "null"),
)
WHOLE = ("--samples-per-gpu", "null")


def train(recipe: Path, folder: Path, *flags: str) -> RunFolder:
    config = read_config(recipe, (*FLAGS, *flags))
    return start(config, folder, default=Path("x"), command=(), quiet=True)[0]


def states(run: RunFolder) -> dict[str, dict[str, Tensor]]:
    checkpoint = torch.load(run.last, weights_only=True)
    return {name: checkpoint[name] for name in ("state_dict", "trained_state_dict") if name in checkpoint}


@pytest.mark.parametrize("flags", [("--norm", "bn"), ("--norm", "ssn", "--train.ema", "0.5")])
def test_the_weights_that_are_evaluated_are_calibrated_and_kept(recipe, tmp_path, flags):
    run = train(recipe, tmp_path / "run", *flags, "--train.calibrate", "4", "--train.snapshot_epochs", "2")
    model = build_model(run.config(), 10)
    state = states(run)["state_dict"]
    load_state(model, {key.removeprefix("model."): value for key, value in state.items()}, "it")
    loader = training_batches(run.config(), create_dataset("digits", augment=True))
    calibrate(model, [batch for _ in range(2) for batch in loader][:4])
    for key, value in model.state_dict().items():
        torch.testing.assert_close(state[f"model.{key}"], value, msg=lambda text, key=key: f"{key}: {text}")
    assert state["model.bn1.num_batches_tracked"] == 4
    last = float(run.metrics()[-1]["val_loss"])
    for file in (run.last, run.snapshot(2)):
        assert evaluate(run, file).metrics["val_loss"] == pytest.approx(last, rel=1e-6)
    assert evaluate(run, run.last, statistics="calibrate:4").metrics["val_loss"] == pytest.approx(last, rel=1e-6)


@pytest.mark.parametrize(
    "flags", [("--norm", "bcn", *WHOLE), ("--norm", "bn", "--train.mixup", "0.3", "--train.ema", "0.5")]
)
def test_training_is_the_same_with_and_without(recipe, tmp_path, flags):
    """BCN normalizes by running statistics in training, which calibration must not replace."""
    with_it = train(recipe, tmp_path / "with", *flags, "--train.calibrate", "2")
    without = train(recipe, tmp_path / "without", *flags)
    ours, theirs = states(with_it), states(without)
    for name in theirs:
        for key, value in theirs[name].items():
            if name == "trained_state_dict" or not any(part in key for part in ("running", "num_batches")):
                assert torch.equal(ours[name][key], value), f"{name}: {key}"
    for mine, other in zip(rows(with_it.metrics_file), rows(without.metrics_file), strict=True):
        assert mine["train_loss"] == other["train_loss"]
        assert mine["val_loss"] != other["val_loss"]


@pytest.mark.parametrize("average", [(), ("--train.ema", "0.5")])
def test_a_killed_run_ends_as_the_unkilled_one(recipe, tmp_path, monkeypatch, average):
    """Resumed where an epoch ended, and in the middle of one."""
    flags = ("--norm", "bcn", *WHOLE, "--train.calibrate", "2", "--train.checkpoint_minutes", "0", *average)
    reference = train(recipe, tmp_path / "reference", *flags)
    for step, writes in ((4, False), (5, True)):
        with monkeypatch.context() as patched:
            patched.setattr(MidEpochCheckpoint, "on_train_batch_end", stopping(step, writes))
            with pytest.raises(StoppedError):
                train(recipe, tmp_path / f"killed{step}", *flags)
        killed = RunFolder(tmp_path / f"killed{step}")
        assert torch.load(killed.last, weights_only=True)["global_step"] == (step if writes else 3)
        resume(killed.path, quiet=True)
        assert_same_run(reference.path, killed.path)


def test_networks_without_batch_statistics_have_nothing_to_calibrate(recipe, tmp_path):
    run = train(recipe, tmp_path / "with", "--norm", "gn", "--train.calibrate", "2")
    plain = train(recipe, tmp_path / "without", "--norm", "gn")
    assert rows(run.metrics_file) == rows(plain.metrics_file)


@pytest.mark.usefixtures("own_registry")
def test_a_layer_that_cannot_be_calibrated_is_refused_at_the_start(recipe):
    class Tracking(nn.BatchNorm2d):
        """Batch statistics that a registration does not let calibrate."""

    layers.register(layers.Norm("tracking", dict.fromkeys((1, 2, 3), Tracking), batch_statistics=True, ghost=True))
    config = read_config(recipe, (*FLAGS, "--norm", "tracking", "--train.calibrate", "2"))
    for begin in (prepare, dry_run):
        with pytest.raises(InputError, match="layer 'bn1' cannot take calibrate: 'tracking' does not support calib"):
            begin(config)
