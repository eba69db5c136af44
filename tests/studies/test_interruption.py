"""Trainings side by side that a signal ends: each saves itself, and the same command continues."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
import yaml

from tests.forked import Forked
from tests.training.test_resume import wait_for

CONFIG = {
    "model": {"name": "digits_resnet9", "norm": "sn"},
    "data": {"name": "digits"},
    "train": {"epochs": 99, "batch_size": 128, "device": "cpu", "checkpoint_minutes": 99},
    "optimizer": {"lr": 0.05},
}


def test_seeds_save_themselves_and_the_same_command_continues(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(CONFIG))
    command = ("-m", "switchnorm", "train", "r.yaml", "--seeds", "0", "1", "--out", "seeds", "--workers", "2")
    process = Forked(command, tmp_path, session=True)
    files = [tmp_path / f"seeds/seed{seed}/checkpoints/last.ckpt" for seed in (0, 1)]
    wait_for(lambda: all(file.is_file() for file in files), process)
    os.killpg(process.pid, signal.SIGHUP)  # as a terminal that is closed
    _, err = process.communicate(timeout=120)  # ends only when every process has closed the pipe
    assert (process.returncode, err) == (129, "switchnorm: interrupted; the same command continues\n")
    steps = [torch.load(file, weights_only=True)["global_step"] for file in files]
    assert any(step % 11 for step in steps), "none was saved within an epoch"
    assert not (tmp_path / "seeds/logs").exists() or not list((tmp_path / "seeds/logs").iterdir())
