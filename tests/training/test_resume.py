"""A run that is killed at any moment and resumed ends as the run that was never killed, bit for bit."""

import csv
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from switchnorm.config.recipe import read_config
from switchnorm.runs.folder import RunFolder
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import resume, start
from tests.training.trainings import StoppedError, stopping

#: What differs between two equal runs.
CLOCK = "images_per_second"


def wait_for(condition, process, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return [{key: value for key, value in row.items() if key != CLOCK} for row in csv.DictReader(lines)]


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (one, other))
        assert a.keys() == b.keys()
        for state in a.keys() & {"state_dict", "trained_state_dict"}:
            assert a[state].keys() == b[state].keys()
            for key, value in a[state].items():
                assert torch.equal(value, b[state][key]), f"{name}: {state}: {key}"
        assert (a["epoch"], a["global_step"]) == (b["epoch"], b["global_step"])
    momentum = [
        [
            state["momentum_buffer"]
            for state in torch.load(run / "checkpoints/last.ckpt")["optimizer_states"][0]["state"].values()
        ]
        for run in (one, other)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*momentum, strict=True))
    for table in ("metrics.csv", "importance.csv"):
        assert (one / table).exists() == (other / table).exists()
        assert not (one / table).exists() or rows(one / table) == rows(other / table)


#: Of the run that is killed, with 5 batches each.
EPOCHS = 4

#: Everything that has a state of its own, or draws numbers.
STATEFUL = ("--train.ema", "0.7", "--train.mixup", "0.4", "--train.cutmix", "1", "--data.augment", "true")


@pytest.mark.parametrize(
    ("resumes", "iteration_size", "more"), [pytest.param(3, 1, (), marks=pytest.mark.sweep), (2, 2, STATEFUL)]
)
def test_a_killed_run_ends_as_the_unkilled_one(command, run, recipe, tmp_path, resumes, iteration_size, more):
    flags = (
        recipe,
        "--train.checkpoint_minutes",
        "0",
        "--epochs",
        EPOCHS,
        "--train.iteration_size",
        iteration_size,
        *more,
    )
    assert run("train", *flags, "--out", "reference")[0] == 0
    draw = random.Random(resumes)
    process = command("train", *flags, "--out", "killed")
    checkpoint = tmp_path / "killed/checkpoints/last.ckpt"
    wait_for(checkpoint.is_file, process)
    for _ in range(resumes):
        before = checkpoint.stat().st_mtime_ns
        wait_for(lambda before=before: checkpoint.stat().st_mtime_ns != before, process)
        time.sleep(0.2 * draw.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        step = torch.load(checkpoint, weights_only=True)["global_step"]
        assert 0 < step < EPOCHS * -(-5 // iteration_size), "killed too late to say anything"
        process = command("train", "--resume", "killed")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert_same_run(tmp_path / "reference", tmp_path / "killed")


def test_a_run_killed_before_its_first_checkpoint_starts_again(command, run, recipe, tmp_path):
    assert run("train", recipe, "--epochs", "1", "--out", "reference")[0] == 0
    process = command("train", recipe, "--epochs", "1", "--out", "killed")
    wait_for((tmp_path / "killed/run.json").is_file, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed/checkpoints/last.ckpt").exists()
    assert run("train", "--resume", "killed")[0] == 0
    assert_same_run(tmp_path / "reference", tmp_path / "killed")


def test_a_run_folder_from_before_a_key_existed_goes_on(recipe, tmp_path, monkeypatch):
    flags = ("--train.checkpoint_minutes", "0", "--norm", "ssn", "--train.ema", "0.5", "--epochs", "1")
    begin = {"default": tmp_path, "command": (), "quiet": True}
    reference, _ = start(read_config(recipe, flags), tmp_path / "reference", **begin)
    with monkeypatch.context() as patched:
        patched.setattr(MidEpochCheckpoint, "on_train_batch_end", stopping(3))
        with pytest.raises(StoppedError):
            start(read_config(recipe, flags), tmp_path / "old", **begin)
    old = RunFolder(tmp_path / "old")
    content = yaml.safe_load(old.config_file.read_text())
    for section, key in NEW:
        del content[section][key]
    old.config_file.write_text(yaml.safe_dump(content))
    checkpoint = torch.load(old.last, weights_only=True)
    # One number per process came later; one process wrote it alone.
    checkpoint["training_metrics"] = [
        {name: sums.squeeze(0) for name, sums in each.items()} for each in checkpoint["training_metrics"]
    ]
    torch.save(checkpoint, old.last)
    resume(old.path, quiet=True)
    assert_same_run(reference.path, old.path)
    assert evaluate(old, old.best).metrics["val_loss"] > 0


#: Keys that the first run folders lack.
NEW = [("train", key) for key in ("eval_batch_size", "eval_mode", "calibrate", "snapshot_epochs", "start_epoch")]
NEW += [("train", "patience"), ("train", "loggers")]
NEW += [("schedule", key) for key in ("final_lr", "warmup", "warmup_lr", "by")] + [
    ("optimizer", key) for key in ("decay_logits", "name", "options")
]


def test_what_cannot_be_resumed_says_so(run, recipe, tmp_path):
    assert run("train", recipe, "--epochs", "1", "--norm", "bn", "--out", "done")[0] == 0
    for arguments, message in [
        (("train", "--resume", "done"), "is finished"),
        (("train", "--resume", "nothing"), "is no run folder; expected config.yaml"),
        (("train", "--resume", "done", "--epochs", "9"), "leave out --epochs"),
        (("train", recipe, "--out", "done"), "exists; continue it with --resume"),
    ]:
        code, _, err = run(*arguments)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1
