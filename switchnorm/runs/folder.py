"""The folder that holds a run: its paths, and its provenance."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task
from switchnorm.errors import InputError
from switchnorm.files import WriteError, is_part, part_of, remove, remove_parts, write_file, writing
from switchnorm.runs import lock
from switchnorm.runs.reading import CONFIG, read_provenance
from switchnorm.runs.tables import read_rows


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; see docs/design.md for the files in it."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The full configuration."""
        return self.path / CONFIG

    @property
    def record_file(self) -> Path:
        """Provenance and outcome."""
        return self.path / "run.json"

    @property
    def metrics_file(self) -> Path:
        """A row per epoch."""
        return self.path / "metrics.csv"

    @property
    def importance_file(self) -> Path:
        """A row per layer, moment and statistic, for every epoch."""
        return self.path / "importance.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of last.ckpt, the one before, best.ckpt and snapshots."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest."""
        return self.checkpoints / "previous.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best score in validation."""
        return self.checkpoints / "best.ckpt"

    def snapshot(self, epochs: int) -> Path:
        """The weights that were evaluated after so many epochs, where the run kept them."""
        return self.checkpoints / f"epoch-{epochs}.ckpt"

    @classmethod
    def create(cls, path: Path, config: Config, command: Sequence[str], **facts: Any) -> RunFolder:
        """Make the folder, with configuration and provenance in it: all of that appears in one moment.

        A folder that is there already, and empty, is filled, and to be held by the caller (`lock`) meanwhile. Where
        that is cut off the lock's file is left, and whoever comes next begins again.

        Args:
            path: of the folder.
            config: of the run.
            command: how it was started.
            **facts: for the record, besides what every run's says.

        Raises:
            InputError: the folder holds something.
            WriteError: it cannot be made. Nothing is left of it then.
        """
        run = cls(path)
        record = {**_provenance(path.name, config, command), **facts}
        if path.exists():
            run.check_new()
            run._fill(config, record)
            return run
        beside = RunFolder(part_of(path))
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_parts(path.parent, path.name)
            try:
                beside.path.mkdir()
                beside._fill(config, record)
                os.rename(beside.path, path)
            except WriteError as error:
                raise error.error from None  # which is about this folder
            except OSError:
                run.check_new()  # another process was faster
                raise
            finally:
                shutil.rmtree(beside.path, ignore_errors=True)
        return run

    def check_new(self) -> None:
        """Raise `InputError` if the folder holds something other than a beginning that was cut off."""
        path = self.path
        if not path.exists():
            return
        inside = {each.name for each in path.iterdir()} if path.is_dir() else {path.name}
        begun = {lock.NAME, self.checkpoints.name, self.config_file.name}
        cut_off = lock.NAME in inside and all(name in begun or is_part(name) for name in inside)
        if inside and not cut_off:
            raise InputError(
                f"run folder {str(path)!r} exists; continue it with --resume, or choose another with --out"
            )

    def _fill(self, config: Config, record: dict[str, Any]) -> None:
        """Write what makes a folder a run's; the record comes last."""
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, self.checkpoints, ignore_errors=True)
            undo.callback(self.config_file.unlink, missing_ok=True)
            with writing(self.checkpoints):
                self.checkpoints.mkdir(exist_ok=True)
            write_file(self.config_file, to_yaml(config))
            write_file(self.record_file, _json(record))
            undo.pop_all()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run: no other process trains in it until this one lets go of it, or ends.

        Raises:
            InputError: another process holds it.
            WriteError: the folder cannot be written.
        """
        return lock.locked(self.path)

    def sweep(self) -> None:
        """Remove what killed processes left half-written; for the one that holds the run."""
        remove_parts(self.path.parent, self.path.name, owned=True)
        for folder in (self.path, *(each for each in self.path.iterdir() if each.is_dir() and not each.is_symlink())):
            remove_parts(folder, owned=True)

    def clear(self) -> None:
        """Remove all that is in the folder, for the one that holds it.

        A kill in between leaves a run, or a beginning that was cut off (see `check_new`).
        """
        last = [self.record_file, self.checkpoints, self.config_file]
        others = sorted(set(self.path.glob("*")) - {self.path / lock.NAME, *last})
        for each in (*others, *last):
            remove(each)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run's folder; raise `InputError` if it is none."""
        run = cls(path)
        for file in (run.config_file, run.record_file):
            if not file.is_file():
                raise InputError(f"{str(path)!r} is no run folder; expected {file.name} in it")
        return run

    def config(self) -> Config:
        """The configuration of the run."""
        return read_config(self.config_file)

    def record(self) -> dict[str, Any]:
        """Provenance and outcome; raise `InputError` if the file is damaged."""
        return read_provenance(self.record_file)

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, by column; raise `InputError` if it is another file."""
        config = self.config()
        names = find_task(config.task).columns
        rows = read_rows(self.metrics_file, names, config.train.start_epoch)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def update_record(self, **changes: Any) -> None:
        """Change entries of the record."""
        write_file(self.record_file, _json({**self.record(), **changes}))

    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.record().get("status") == "finished"

    def diverged(self) -> dict[str, Any] | None:
        """Where the run diverged: epoch, step, steps, learning_rate and what was first; None if it did not."""
        record = self.record()
        where = record.get("diverged")
        return where if record.get("status") == "diverged" and isinstance(where, dict) else None


def _provenance(name: str, config: Config, command: Sequence[str]) -> dict[str, Any]:
    """What the record of a run says from its beginning."""
    from switchnorm.runs.provenance import git_revision, hardware, versions

    return {
        "name": name,
        "command": shlex.join(command),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": config.seed,
        "versions": versions(),
        "hardware": hardware(),
        "git": git_revision(),
        "status": "running",
        "seconds": None,
        "result": {},
    }


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


def free_folder(path: Path) -> Path:
    """`path`, or with -2, -3, ... behind it the first that does not exist."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
