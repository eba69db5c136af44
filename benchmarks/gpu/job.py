"""A part of the study at work: its time, and its record, which is whole on the disk at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import record

Entry = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all parts are given.

    Attributes:
        out: the folder of the records.
        device: "cuda", or "cpu" in a rehearsal, in which Triton interprets.
        head: of every record, with the "device"; made once, for to ask for it begins to use CUDA, and whoever forks
            may not have done so.
        data: the folder with CIFAR-10, if there is one.
        workers: processes that compile, or test, side by side.
    """

    out: Path
    device: str
    head: Mapping[str, Any]
    data: Path | None
    workers: int

    @property
    def rehearsing(self) -> bool:
        """Whether everything is as small as can be."""
        return self.device == "cpu"


@dataclass
class Job:
    """A part at work.

    Args:
        part: its name, and its record's.
        setting: as all parts'.
        deadline: of `time.monotonic`, after which it is ended.
    """

    part: str
    setting: Setting
    deadline: float
    rows: list[Entry] = field(default_factory=list)
    ratios: list[Entry] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: Entry = field(default_factory=dict)
    status: str = "running"
    began: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The record."""
        return path_of(self.setting.out, self.part)

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def add(self, *rows: Entry) -> None:
        """Keep rows, on the disk too."""
        self.rows.extend(rows)
        self.write()

    def fail(self, why: str) -> None:
        """Keep what went wrong, and say it."""
        self.failures.append(why)
        print(f"  FAILED: {why}", flush=True)
        self.write()

    def write(self) -> None:
        """Write the record as it stands."""
        facts = {
            **self.setting.head,
            "part": self.part,
            "status": self.status,
            "seconds": round(time.monotonic() - self.began, 1),
            **self.notes,
            "failures": self.failures,
        }
        record.write(self.path, facts, self.rows, self.ratios)


class Part(NamedTuple):
    """A part of the study.

    Attributes:
        name: of the part and its record.
        share: of the budget, in proportion to those of the parts that are still to come.
        run: does it; returns whether it came to its end before the time did.
    """

    name: str
    share: float
    run: Callable[[Job], bool]


def path_of(out: Path, part: str) -> Path:
    """Where the record of a part is."""
    return out / f"{part}.json"
