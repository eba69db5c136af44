"""Small runs, in processes of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.forked import Forked

CONFIG = {
    "model": {"name": "digits_resnet9", "norm": "ssn"},
    "data": {"name": "digits"},
    "train": {"epochs": 2, "batch_size": 256, "samples_per_gpu": 64, "device": "cpu"},
    "optimizer": {"lr": 0.05},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of 2 epochs with 5 steps each."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture
def command(tmp_path: Path):
    """Start `switchnorm ...` in an empty folder, with one thread, its output not a terminal."""
    started = []

    def start(*arguments: str, **changes: str) -> Forked:
        started.append(Forked(("-m", "switchnorm", *arguments), tmp_path, {**os.environ, **changes}))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def run(command):
    """Run `switchnorm ...` to its end: (exit code, stdout, stderr)."""

    def finish(*arguments: str, **changes: str) -> tuple[int, str, str]:
        process = command(*arguments, **changes)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return finish
