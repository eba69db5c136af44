"""What a run is continued from: a whole checkpoint, and tables that agree with it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError
from switchnorm.files import writing
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.tables import TABLES, restore_tables
from switchnorm.training.callbacks.checkpoints import Resumable, read_resumable
from switchnorm.training.callbacks.interruption import resuming

_ANEW = "begin anew with another --out"


def continued_from(run: RunFolder, checkpoint: str) -> Resumable | None:
    """The checkpoint that a run goes on from, found whole; None where it was ended before it had one.

    Args:
        run: the run.
        checkpoint: "last" or "previous".

    Raises:
        InputError: the run is finished; the checkpoint is damaged, or missing though the run wrote some.
    """
    if (diverged := run.diverged()) is not None:
        epoch, rate = diverged.get("epoch"), diverged.get("learning_rate")
        raise InputError(
            f"run {str(run.path)!r} diverged in epoch {epoch} at learning rate {rate}, "
            "and would again; start a new one with a lower --optimizer.lr, or with --train.on_divergence skip"
        )
    if run.finished():
        raise InputError(f"run {str(run.path)!r} is finished; {_after_the_end(run)}")
    if checkpoint == "previous" or (run.previous.is_file() and not run.last.is_file()):
        if not run.previous.is_file():
            raise InputError(f"run {str(run.path)!r} has no {run.previous.name}; leave out --checkpoint")
        return _read(run.previous, _ANEW)
    if run.last.is_file():
        back = f"continue from the one before with `{resuming(run)} --checkpoint previous`"
        return _read(run.last, back if run.previous.is_file() else _ANEW)
    if run.metrics_file.is_file() and (done := len(run.metrics())) > 1:  # a kill loses the checkpoint of one epoch
        raise InputError(f"{run.last} is missing after {done} epochs; put it back, or {_ANEW}")
    return None


def _after_the_end(run: RunFolder) -> str:
    """What may be done with a finished run: its schedule has ended, so that more epochs are another training."""
    train, quote = run.config().train, lambda path: shlex.quote(str(path))
    done = train.start_epoch + len(run.metrics())
    epochs = train.epochs if train.epochs > done else 2 * done
    longer = f"--train.warm_start {quote(run.last)} --train.start_epoch {done} --epochs {epochs} --out NEW"
    return (
        f"evaluate it with `switchnorm eval {quote(run.path)}`, or train its weights for longer, as a new run, with "
        f"`switchnorm train {quote(run.config_file)} {longer}`"
    )


def make_last(run: RunFolder, source: Resumable | None) -> list[str]:
    """Let what a run goes on from be its last checkpoint.

    Returns:
        What is to be said about it, a line each.

    Raises:
        WriteError: the folder cannot be written.
    """
    with writing(run.checkpoints):
        run.checkpoints.mkdir(exist_ok=True)
    if source is None or source.path == run.last:
        return []
    said = [] if run.last.is_file() else [f"{run.last} is missing; continued from {source.path.name}"]
    with writing(run.last):
        os.replace(source.path, run.last)
    return said


def _read(path: Path, remedy: str) -> Resumable:
    try:
        return read_resumable(path)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error


def check_tables(run: RunFolder, checkpoint: Mapping[str, Any]) -> None:
    """Look whether `recover_tables` can write again what is lost of the tables.

    Raises:
        InputError: a checkpoint of an earlier version, which holds no tables, and metrics.csv lacks epochs before it.
    """
    if TABLES not in checkpoint:
        rows = run.metrics() if run.metrics_file.is_file() else []
        found = {int(row["epoch"]) for row in rows}
        missing = set(range(run.config().train.start_epoch + 1, int(checkpoint["epoch"]) + 1)) - found
        if missing:
            raise InputError(f"{run.metrics_file} has no row of epoch {min(missing)}; put it back, or {_ANEW}")


def recover_tables(run: RunFolder, checkpoint: Mapping[str, Any]) -> list[str]:
    """Let the tables of a run agree with the checkpoint that it goes on from.

    Returns:
        What is to be said about those that did not, a line each.

    Raises:
        WriteError: a table cannot be written.
    """
    restored = restore_tables(run.path, checkpoint)
    return [f"{run.path / name} was not as {run.last.name} knows it; written again from there" for name in restored]
