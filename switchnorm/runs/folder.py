"""The folder that holds a run: its paths, and its provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task
from switchnorm.errors import InputError
from switchnorm.files import write_file
from switchnorm.runs.reading import read_record
from switchnorm.runs.tables import read_rows


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; see docs/design.md for the files in it."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The full configuration."""
        return self.path / "config.yaml"

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
        """The folder of last.ckpt, best.ckpt and snapshots."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best score in validation."""
        return self.checkpoints / "best.ckpt"

    def snapshot(self, epochs: int) -> Path:
        """The weights that were evaluated after so many epochs, where the run kept them."""
        return self.checkpoints / f"epoch-{epochs}.ckpt"

    @classmethod
    def create(cls, path: Path, config: Config, command: Sequence[str]) -> RunFolder:
        """Make the folder and write configuration and provenance.

        Raises:
            InputError: the folder exists and is not empty.
        """
        from switchnorm.runs.provenance import git_revision, hardware, versions

        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"run folder {str(path)!r} exists; continue it with --resume, or choose another with --out"
            )
        provenance = {
            "name": path.name,
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
        run = cls(path)
        run.checkpoints.mkdir(parents=True)
        write_file(run.config_file, to_yaml(config))
        write_file(run.record_file, json.dumps(provenance, indent=2) + "\n")
        return run

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
        return read_record(self.record_file, "the provenance of a run")

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, by column; raise `InputError` if it is another file."""
        names = find_task(self.config().task).columns
        return [dict(zip(names, row, strict=True)) for row in read_rows(self.metrics_file, names)]

    def update_record(self, **changes: Any) -> None:
        """Change entries of the record."""
        write_file(self.record_file, json.dumps({**self.record(), **changes}, indent=2) + "\n")

    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.record().get("status") == "finished"

    def diverged(self) -> dict[str, Any] | None:
        """Where the run diverged: epoch, step, steps, learning_rate and what was first; None if it did not."""
        record = self.record()
        where = record.get("diverged")
        return where if record.get("status") == "diverged" and isinstance(where, dict) else None


def free_folder(path: Path) -> Path:
    """`path`, or with -2, -3, ... behind it the first that does not exist."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
