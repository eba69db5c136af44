"""A run that goes on with weights from elsewhere, at their place in the schedule."""

from pathlib import Path

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.runs.folder import RunFolder
from switchnorm.training import dry_run
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.launch import resume, start
from tests.training.test_resume import assert_same_run, rows
from tests.training.trainings import StoppedError, stopping

#: Without momentum an optimizer has no state, so that weights are all that an epoch hands on.
FLAGS = ("--epochs", "4", "--batch-size", "48", "--samples-per-gpu", "16", "--data.augment", "true")
FLAGS += ("--optimizer.momentum", "0", "--optimizer.nesterov", "false", "--train.snapshot_epochs", "1")
FLAGS += ("--schedule.warmup_epochs", "1.5", "--train.mixup", "0.3")


def train(recipe: Path, folder: Path, *flags: str) -> RunFolder:
    config = read_config(recipe, (*FLAGS, *flags))
    return start(config, folder, default=Path("x"), command=(), quiet=True)[0]


def state(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("norm", "flags"),
    [
        # 29 batches are a pass: epochs of 4 begin within it.
        ("ssn", ("--train.epoch_steps", "4")),
        ("bn", ("--train.epoch_steps", "7", "--train.iteration_size", "3", "--schedule.by", "step")),
    ],
)
@pytest.mark.parametrize("done", [1, 3])
def test_it_ends_as_the_run_that_never_stopped(recipe, tmp_path, norm, flags, done):
    whole = train(recipe, tmp_path / "whole", "--norm", norm, *flags)
    begin = ("--train.warm_start", str(whole.snapshot(done)), "--train.start_epoch", str(done))
    rest = train(recipe, tmp_path / "rest", "--norm", norm, *flags, *begin)
    for epochs in range(done + 1, 5):
        expected, found = state(whole.snapshot(epochs)), state(rest.snapshot(epochs))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], value), f"after {epochs}: {key}"
    assert not rest.snapshot(done).exists()
    assert rows(rest.metrics_file) == rows(whole.metrics_file)[done:]
    last = [torch.load(run.last, weights_only=True) for run in (whole, rest)]
    assert [(each["epoch"], each["global_step"]) for each in last] == [(3, last[0]["global_step"])] * 2
    assert last[0]["Loaders"] == last[1]["Loaders"]


def test_it_can_be_killed_like_any_other(recipe, tmp_path, monkeypatch):
    short = ("--norm", "ssn", "--train.epoch_steps", "3", "--train.checkpoint_minutes", "0")
    whole = train(recipe, tmp_path / "whole", *short)
    flags = (*short, "--train.warm_start", str(whole.snapshot(2)), "--train.start_epoch", "2")
    reference = train(recipe, tmp_path / "reference", *flags, "--optimizer.momentum", "0.9")
    killed = RunFolder(tmp_path / "killed")

    def go_on() -> None:
        if killed.path.exists():
            resume(killed.path, quiet=True)
        else:
            train(recipe, killed.path, *flags, "--optimizer.momentum", "0.9")

    for step, writes in ((7, False), (8, True), (11, True)):  # before the first checkpoint, then inside of epochs
        with monkeypatch.context() as patched:
            patched.setattr(MidEpochCheckpoint, "on_train_batch_end", stopping(step, writes))
            with pytest.raises(StoppedError):
                go_on()
        assert killed.last.is_file() == writes
    go_on()
    assert_same_run(reference.path, killed.path)


def test_what_begins_late_says_so(recipe, tmp_path, capsys):
    whole = train(recipe, tmp_path / "whole", "--norm", "bn", "--train.epoch_steps", "2")
    flags = (*FLAGS, "--norm", "bn", "--train.epoch_steps", "2", "--train.warm_start", str(whole.snapshot(3)))
    flags += ("--train.start_epoch", "3", "--lr", "0.08", "--schedule.warmup_epochs", "0", "--schedule.name", "step")
    flags += ("--schedule.milestones", "[2, 3]")
    capsys.readouterr()
    start(read_config(recipe, flags), tmp_path / "late", default=Path("x"), command=())
    lines = capsys.readouterr().out.splitlines()
    assert "training begins with epoch 4 of 4" in lines
    assert [line[:15] for line in lines if "0 left" in line] == ["epoch 4/4  loss"]
    (row,) = rows(tmp_path / "late/metrics.csv")
    assert (row["epoch"], row["step"], float(row["learning_rate"])) == ("4", "8", pytest.approx(0.0008))
    dry = str(dry_run(read_config(recipe, flags)))
    assert "\ntraining begins with epoch 4 of 4\n" in dry
    assert "2 steps per epoch, learning rate 0.08, 0.0008 in the first step; one step" in dry
    assert "first step" not in str(dry_run(read_config(recipe, (*flags, "--train.start_epoch", "0"))))


def test_a_dry_run_takes_the_step_with_which_the_run_begins(recipe, tmp_path):
    """The radius has grown, and the data is that of the epoch."""
    short = ("--norm", "ssn", "--train.epoch_steps", "4", "--train.mixup", "0", "--samples-per-gpu", "2")
    whole = train(recipe, tmp_path / "whole", *short)
    flags = (*FLAGS, *short, "--train.warm_start", str(whole.snapshot(3)))
    losses = [dry_run(read_config(recipe, (*flags, "--train.start_epoch", str(epoch)))).loss for epoch in (0, 3)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
