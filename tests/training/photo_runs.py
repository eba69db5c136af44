"""Runs on small photographs, which begin in seconds and can be stopped after any step."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml

from switchnorm.config.recipe import read_config
from switchnorm.runs.folder import RunFolder
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.launch import start
from tests.training.trainings import StoppedError, stopping

#: Of 12 training pictures in batches of 3: 4 steps in each epoch.
CONFIG = {
    "model": {"name": "cifar_resnet8", "norm": "ssn"},
    "data": {"name": "folder", "size": 16, "resize": 20, "workers": 0},
    "train": {"epochs": 3, "batch_size": 3, "device": "cpu", "checkpoint_minutes": 0, "loggers": []},
    "optimizer": {"lr": 0.05},
}


def recipe_for(root: Path, folder: Path, **changes: object) -> Path:
    """A recipe for photographs below `root`."""
    config = {**CONFIG, "data": {**CONFIG["data"], "root": str(root)}, **changes}
    path = folder / "photos.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def forget(run: RunFolder) -> None:
    """Make it a run from before classes, data and settings were kept."""
    record = run.record()
    for key in ("classes", "data"):
        del record[key]
    run.record_file.write_text(json.dumps(record))
    for path in run.checkpoints.glob("*.ckpt"):
        checkpoint = torch.load(path)
        for key in ("classes", "settings"):
            checkpoint.pop(key, None)
        torch.save(checkpoint, path)


def train(recipe: Path, path: Path, *flags: str, stop: int | None = None) -> RunFolder:
    """Begin a run; `stop` ends it with the checkpoint of that step, of 4 in each epoch, as the newest."""
    config = read_config(recipe, flags)
    begin = {"default": path, "command": (), "quiet": True}
    if stop is None:
        return start(config, path, **begin)[0]
    stops = stopping(stop) if stop % 4 else stopping(stop + 1, writes=False)  # an epoch's last one is another's work
    with (
        patch.object(MidEpochCheckpoint, "on_train_batch_end", stops),
        pytest.raises(StoppedError),
    ):
        start(config, path, **begin)
    return RunFolder(path)
