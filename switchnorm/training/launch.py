"""Starting, resuming and reading back runs: what the command line and studies do with run folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from switchnorm.surgery import LayerImportance, importance
from switchnorm.training.checkpoints import check_resumable
from switchnorm.training.config import Config
from switchnorm.training.fit import build_model, prepare, train
from switchnorm.training.run_folder import RunFolder, free_folder
from switchnorm.weights import load_state, read_state, state_importance


def first_process() -> bool:
    """Whether this is the process that writes: the only one, or torchrun's first."""
    return int(os.environ.get("RANK", "0")) == 0


def start(
    config: Config, out: Path | None, *, default: Path, command: Sequence[str], quiet: bool = False
) -> tuple[RunFolder, dict[str, Any]]:
    """Train a new run.

    Args:
        config: the configuration.
        out: the run folder; None takes `default`, or a free name after it.
        default: see `out`.
        command: how the run was started, for its record.
        quiet: whether to show no progress.

    Returns:
        The run and its result.

    Raises:
        InputError: anything wrong with the input, before a folder is made; or a folder that is not empty.
    """
    model, dataset = prepare(config)
    path = default if out is None else out
    # Processes of one run must agree on its folder: the first makes it, and none looks for a free name.
    if out is None and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        path = free_folder(path)
    run = RunFolder.create(path, config, command) if first_process() else RunFolder(path)
    return run, train(run, config, model, dataset, quiet=quiet)


def resume(path: Path, *, quiet: bool = False) -> tuple[RunFolder, dict[str, Any]]:
    """Continue a run from its last checkpoint, or from the start if it was killed before the first one.

    Raises:
        InputError: no run, or one that is finished.
    """
    run = RunFolder.open(path)
    if run.finished():
        raise InputError(f"run {str(path)!r} is finished; evaluate it with `switchnorm eval {path}`")
    config = run.config()
    model, dataset = prepare(config)
    if run.last.is_file():  # the trainer loads it too, but would not explain what does not fit
        load_state(model, read_state(run.last), f"checkpoint {str(run.last)!r}")
        check_resumable(run.last)
        run.metrics()
    return run, train(run, config, model, dataset, quiet=quiet)


def checkpoint_of(run: RunFolder, which: str) -> Path:
    """The file of the checkpoint "last", "best", or a path; raise `InputError` if it does not exist."""
    path = {"last": run.last, "best": run.best}.get(which, Path(which))
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in run.checkpoints.glob("*.ckpt"))) or "none yet"
        raise InputError(f"checkpoint {which!r} does not exist; {str(run.path)!r} has {there}")
    return path


def inspect(path: Path) -> list[LayerImportance]:
    """What every switchable layer of a run, or of a checkpoint file, chose.

    Raises:
        InputError: neither a run nor a checkpoint.
    """
    run = RunFolder(path if path.is_dir() else path.parent.parent)
    if not path.is_dir() and not run.config_file.is_file():
        return state_importance(read_state(path))
    run = RunFolder.open(run.path)
    config = run.config()
    dataset = create_dataset(**config.data)
    model = build_model(config, dataset)
    checkpoint = checkpoint_of(run, "last") if path.is_dir() else path
    load_state(model, read_state(checkpoint), f"checkpoint {str(checkpoint)!r}")
    return importance(model)
