"""Networks spread over processes (FSDP2): the same training as with whole ones, checkpoints of one kind, resuming."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from switchnorm.cli import main
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.progress import epochs_done
from switchnorm.training.sharding import units
from tests.training.test_processes import last_row, torchrun


def checkpoint(run):
    return torch.load(run / "checkpoints/last.ckpt", weights_only=False)


def flags(norm, *more):
    return ("--epochs", "2", "--norm", norm, "--precision", "64", "--samples-per-gpu", "null", *more)


def assert_trained_alike(whole, spread):
    """The same weights and momenta but for the order of sums over processes, in float64."""
    one, two = checkpoint(whole), checkpoint(spread)
    assert list(one["state_dict"]) == list(two["state_dict"])
    for key, value in one["state_dict"].items():
        assert type(two["state_dict"][key]) is torch.Tensor
        torch.testing.assert_close(
            two["state_dict"][key], value, rtol=1e-7, atol=1e-9, msg=lambda said, key=key: f"{key}: {said}"
        )
    states = [each["optimizer_states"][0] for each in (one, two)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for number, entries in states[0]["state"].items():
        torch.testing.assert_close(
            states[1]["state"][number]["momentum_buffer"], entries["momentum_buffer"], rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("norm", ["ssn", pytest.param("sn", marks=pytest.mark.sweep)])
def test_a_spread_network_trains_as_a_whole_one(recipe, tmp_path, norm):
    more = ("--optimizer.clip_norm", "1", "--schedule.radius_end", "0.5")
    for name, strategy in (("whole", "auto"), ("spread", "fsdp")):
        done = torchrun(tmp_path, 2, "train", recipe, *flags(norm, *more), "--train.strategy", strategy, "--out", name)
        assert done.returncode == 0, done.stderr
    assert_trained_alike(tmp_path / "whole", tmp_path / "spread")
    a, b = last_row(tmp_path / "whole"), last_row(tmp_path / "spread")
    assert a["val_accuracy"] == b["val_accuracy"]
    assert (tmp_path / "whole/importance.csv").read_text().count("\n") == (
        tmp_path / "spread/importance.csv"
    ).read_text().count("\n")


def test_a_spread_training_that_is_interrupted_goes_on_bit_for_bit(recipe, tmp_path):
    long = ("--epochs", "6", "--norm", "ssn", "--samples-per-gpu", "null", "--train.strategy", "fsdp")
    assert torchrun(tmp_path, 2, "train", recipe, *long, "--out", "one").returncode == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "switchnorm"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [*command, "train", str(recipe), *long, "--out", "two"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while epochs_done(tmp_path / "two") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    started.wait(100)
    assert not RunFolder(tmp_path / "two").finished()
    done = torchrun(tmp_path, 2, "train", "--resume", "two")
    assert done.returncode == 0, done.stderr
    one, two = (checkpoint(tmp_path / name) for name in ("one", "two"))
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key]), key
    # What a spread training has written is continued by any number of processes, whole.


@pytest.mark.parametrize(("key", "value"), [("ema", "0.9"), ("channels_last", "true"), ("compile", "true")])
def test_what_a_spread_network_cannot_have_is_one_line(key, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits/resnet9", "--train.strategy", "fsdp", f"--train.{key}", value])
    assert f"train.strategy fsdp and train.{key} exclude each other" in capsys.readouterr().err


def test_units_are_members_of_sequences_that_have_parameters():
    block = nn.Module()
    block.inner = nn.Sequential(nn.Linear(2, 2))
    network = nn.Module()
    network.stem = nn.Linear(2, 2)
    network.stages = nn.Sequential(nn.Sequential(block, nn.ReLU()), nn.Linear(2, 2))
    assert list(units(network)) == [block, network.stages[1]]
