"""The folder that holds a run: its paths, its provenance, and files that a kill cannot spoil."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError
from switchnorm.training.config import Config
from switchnorm.training.recipe import read_config, to_yaml
from switchnorm.training.scores import columns

#: The columns of importance.csv.
IMPORTANCE = ("epoch", "layer", "moment", "statistic", "importance")

#: The columns of classes.csv, of segmentation.
CLASSES = ("epoch", "class", "iou", "accuracy", "pixels")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that a kill leaves the old content or the new, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


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
    def classes_file(self) -> Path:
        """Of segmentation, a row per class for every epoch."""
        return self.path / "classes.csv"

    @property
    def confusion_file(self) -> Path:
        """Of segmentation, the last epoch's counts of pixels by true and predicted class."""
        return self.path / "confusion.csv"

    @property
    def examples(self) -> Path:
        """Of segmentation, the folder of some test pictures with truth and prediction."""
        return self.path / "examples"

    @property
    def checkpoints(self) -> Path:
        """The folder of last.ckpt and best.ckpt."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best score in validation."""
        return self.checkpoints / "best.ckpt"

    @classmethod
    def create(cls, path: Path, config: Config, command: Sequence[str]) -> RunFolder:
        """Make the folder and write configuration and provenance.

        Raises:
            InputError: the folder exists and is not empty.
        """
        from switchnorm.training.provenance import git_revision, hardware, versions

        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"run folder {str(path)!r} exists; continue it with --resume, or choose another with --out"
            )
        record = {
            "name": path.name,
            "command": " ".join(command),
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
        write_atomically(run.config_file, to_yaml(config))
        write_atomically(run.record_file, json.dumps(record, indent=2) + "\n")
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
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self.record_file} is damaged; expected a JSON object") from error
        if not isinstance(record, dict):
            raise InputError(f"{self.record_file} is damaged; expected a JSON object, got {type(record).__name__}")
        return record

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, by column; raise `InputError` if it is another file."""
        names = columns(self.config().task)
        return [dict(zip(names, row, strict=True)) for row in read_rows(self.metrics_file, names)]

    def update_record(self, **changes: Any) -> None:
        """Change entries of the record."""
        write_atomically(self.record_file, json.dumps({**self.record(), **changes}, indent=2) + "\n")

    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.record().get("status") == "finished"


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """The whole rows of a CSV file under a header; a row that a kill cut off is none.

    Raises:
        InputError: the header has other columns.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if rows[:1] not in ([], [list(columns)]):
        raise InputError(f"{path} is damaged; expected the columns {', '.join(columns)}")
    return [row for row in rows[1:] if len(row) == len(columns) and row[0].isdigit()]


def free_folder(path: Path) -> Path:
    """`path`, or with -2, -3, ... behind it the first that does not exist."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


class EpochTable:
    """A CSV file with rows by epoch, which forgets the epochs that a resumed run repeats.

    Args:
        path: the file; the first column is "epoch".
        columns: all columns.
        first_epoch: rows of this epoch and later, and a row that a kill cut off, are dropped from an existing file.
    """

    def __init__(self, path: Path, columns: Sequence[str], first_epoch: int) -> None:
        self.path = path
        rows = read_rows(path, columns) if path.is_file() else []
        kept = [row for row in rows if int(row[0]) < first_epoch]
        write_atomically(path, csv_text([columns, *kept]))

    def append(self, rows: Sequence[Sequence[object]]) -> None:
        """Add rows at the end."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(csv_text(rows))


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
