"""Trains several configurations one after the other: a script, so that it can be one of several processes too.

    python trainings.py RECIPE FOLDER '{"NAME": ["--norm", "bn"], ...}' [STEP]

With STEP the last of them is killed after the mid-epoch checkpoint of that step. What is there already is resumed.
Every run is then evaluated by `STATISTICS`, and what is found is kept in `evaluated.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml

from switchnorm.config.recipe import read_config
from switchnorm.processes import is_first
from switchnorm.runs.folder import RunFolder
from switchnorm.training import fit
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import resume, start

STATISTICS = ("running", "calibrate:3")


def train_all(recipe: Path, folder: Path, cases: Mapping[str, Sequence[str]], killed_after: int | None = None) -> None:
    """Train every case into `folder/NAME`."""
    for name, flags in cases.items():
        if killed_after is not None and name == list(cases)[-1]:
            MidEpochCheckpoint.on_train_batch_end = stopping(killed_after, kill=True)
        if RunFolder(folder / name).last.is_file():
            resume(folder / name, quiet=True)
        else:
            start(read_config(recipe, flags), folder / name, default=folder, command=(), quiet=True)
        run = RunFolder(folder / name)
        found = {each: evaluate(run, run.last, statistics=each).metrics for each in STATISTICS}
        if is_first():
            (run.path / "evaluated.json").write_text(json.dumps(found))


class StoppedError(Exception):
    """Ends a training that a test interrupts."""


def stopping(step: int, writes: bool = True, kill: bool = False) -> Any:
    """`MidEpochCheckpoint.on_train_batch_end`, which ends the training after a step.

    Args:
        step: after which optimizer step, of the whole run.
        writes: whether it writes checkpoints until then, that one included.
        kill: whether the process dies; else `StoppedError` is raised.
    """
    write = MidEpochCheckpoint.on_train_batch_end

    def write_and_stop(self: MidEpochCheckpoint, trainer: Any, *args: Any) -> None:
        if writes:
            write(self, trainer, *args)
        if trainer.global_step == step:
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise StoppedError

    return write_and_stop


@contextlib.contextmanager
def with_callback(make: Callable[[], pl.Callback]) -> Iterator[None]:
    """Give trainings one callback more, around their steps."""
    own = fit.step_callbacks
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fit, "step_callbacks", lambda *given: [*own(*given), make()])
        yield


if __name__ == "__main__":
    recipe, folder, cases, *step = sys.argv[1:]
    train_all(Path(recipe), Path(folder), json.loads(cases), int(step[0]) if step else None)


def with_short_epochs(recipe: Path) -> Path:
    """Let a recipe's epochs have two steps of four samples, for tests in which no number of them matters."""
    content = yaml.safe_load(recipe.read_text())
    content["train"] |= {"epoch_steps": 2, "batch_size": 4, "samples_per_gpu": 2, "eval_batch_size": 360}
    recipe.write_text(yaml.safe_dump(content))
    return recipe
