"""A study: runs in one folder, trained side by side, of which a kill loses nothing."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, RenderableType
from rich.text import Text

from switchnorm.config.cluster import Cluster
from switchnorm.config.keys import SHORT
from switchnorm.config.limits import WORKERS
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.files import writing
from switchnorm.processes import world_size
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.lock import locked
from switchnorm.runs.reading import read_record
from switchnorm.screen import is_screen, make_console
from switchnorm.studies.cluster import train_on
from switchnorm.studies.folder import Plan, check_data, check_folder
from switchnorm.studies.parallel import Outcome, default_workers, train_all
from switchnorm.studies.progress import StudyProgress
from switchnorm.text import printable
from switchnorm.training.beginning import begin
from switchnorm.training.build import prepare
from switchnorm.training.first_look import first_look
from switchnorm.training.pictures import as_expected

#: Called with `Study.facts` as each training ends; returns what the terminal shows above the progress.
Keep = Callable[[dict[str, Any]], RenderableType | None]


@dataclass(kw_only=True)
class Study:
    """Runs that are to be trained side by side.

    Args:
        out: the folder of runs, logs, tables and report.
        plan: run folders and configurations, in the order in which they start.
        names: what each run is called, but for its seed; in the order of the table.
        workers: trainings side by side.
        varied: keys in which other runs in the folder may differ from these (`check_folder`).
        cluster: where they are trained; None is this machine, by processes of this one.
        about: a line to begin with.
        origin: where the numbers come from, besides what each run's record says; plain values by name.
    """

    out: Path
    plan: Plan
    names: Mapping[Path, str]
    workers: int
    varied: Sequence[str]
    cluster: Cluster | None = None
    about: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)
    errors: dict[Path, str] = field(default_factory=dict)
    """Of the runs that failed, the reason."""

    _looks: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False)
    """What a look at data says, by what is looked at."""

    @property
    def finished(self) -> list[Path]:
        """The runs that came to their end, in the order of the table."""
        return [path for path in self.names if (path / "run.json").is_file() and RunFolder.open(path).finished()]

    def title(self, path: Path, config: Config) -> str:
        """What progress calls a run."""
        return f"{self.names[path]} seed {config.seed}".lstrip()

    def facts(self, command: Sequence[str], seconds: float) -> dict[str, Any]:
        """Where the numbers come from, with what this took."""
        took = {"command": shlex.join(command), "side_by_side": self.workers, "seconds": round(seconds, 1)}
        return {**self.origin, **took}

    def run(
        self, command: Sequence[str], keep: Keep = lambda facts: None, console: Console | None = None
    ) -> dict[Path, Outcome]:
        """Train what is not trained yet.

        Args:
            command: how the study was started.
            keep: called as each training ends.
            console: where progress goes.

        Returns:
            How each run ended.

        Raises:
            InputError: several processes; a folder of another configuration, or one that another study is at work in;
                whatever would keep a run from starting.
        """
        console = console or make_console()
        if world_size() > 1:
            raise InputError("several trainings take one process; start them without torchrun")
        check_folder([(path, as_expected(config)[0]) for path, config in self.plan], self.varied)
        said = self._rehearse()
        with _made(self.out), locked(self.out):
            for line in filter(None, (self.about, *said)):
                console.print(Text(printable(line)), soft_wrap=not is_screen(console))
            began, before = time.monotonic(), _earlier_seconds(self.out)

            def ended(path: Path, outcome: Outcome) -> RenderableType | None:
                if outcome.error:
                    self.errors[path] = outcome.error
                return keep(self.facts(command, before + time.monotonic() - began))

            with StudyProgress(self.plan, self.workers, self.title, ended, console) as progress:
                trained = train_all if self.cluster is None else partial(train_on, self.cluster)
                return trained(self.plan, command, progress, workers=self.workers, logs=self.out / "logs")

    def kinds(self) -> dict[str, Config]:
        """Of the runs of each name one that has not finished, to be checked for all of them."""
        configs, finished = dict(self.plan), set(self.finished)
        found: dict[str, Config] = {}
        for path, name in self.names.items():
            if path not in finished:
                found.setdefault(name, configs[path])
        return found

    def check(self, name: str, config: Config) -> Sequence[str]:
        """What a start of the runs of that name says; raise `InputError` if they cannot start."""
        alike = [path for path, each in self.plan if each.data == config.data]
        config, pictures = as_expected(config)
        model, dataset = prepare(config)
        check_data(alike, dataset)
        data = str(config.data)
        if data not in self._looks:
            self._looks[data] = first_look(config, dataset)
        return *begin(model, config, pictures, dataset).lines, *self._looks[data]

    def _rehearse(self) -> list[str]:
        """Check every kind of run with network, weights and data before anything is written.

        Returns:
            What a start says, once where all kinds have it to say.
        """
        kinds = self.kinds()
        lines: dict[str, list[str]] = {}
        for name, config in kinds.items():
            for line in self.check(name, config):
                lines.setdefault(line, []).append(name)
        return [line if len(of) == len(kinds) else f"{', '.join(of)}: {line}" for line, of in lines.items()]


def check_flags(flags: Sequence[str], sets: Mapping[str, str]) -> None:
    """Refuse flags for what a study sets in each run by itself.

    Args:
        flags: as `switchnorm train` takes them.
        sets: the keys, and the flag of the study that decides on each.

    Raises:
        InputError: names the flag, and the one to use instead.
    """
    for flag in flags:
        key = flag.removeprefix("--").partition("=")[0].replace("-", "_")
        key = SHORT.get(key, key)
        if flag.startswith("--") and key in sets:
            raise InputError(f"the study sets {key} for each run by itself; use {sets[key]} instead of {flag}")


def device_of(name: str, cluster: Cluster | None = None) -> str:
    """The device that `--device` names.

    "auto" is CUDA where it is there, else the CPU; in SLURM's jobs, which run elsewhere, CUDA if they ask for GPUs.
    """
    if name != "auto":
        return name
    there = torch.cuda.is_available() if cluster is None or cluster.engine == "local" else bool(cluster.gpus)
    return "cuda" if there else "cpu"


def side_by_side(workers: int | None, device: str, plan: Plan, cluster: Cluster | None = None) -> int:
    """How many runs of a plan train at a time: so many, or as many as the device has room for; all in SLURM's queue.

    Raises:
        InputError: less than one.
    """
    WORKERS.check("--workers", workers)
    room = len(plan) if cluster is not None and cluster.engine == "slurm" else default_workers(device)
    return min(workers or room, len(plan))


def origin(study: str, recipe: str, device: str) -> dict[str, Any]:
    """What a table's file says of where its numbers come from."""
    return {"study": study, "recipe": recipe, "device": device}


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, which is taken away again if nothing has come into it."""
    there = folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not there:
            with contextlib.suppress(OSError):
                folder.rmdir()


def earlier_facts(out: Path) -> dict[str, Any]:
    """What the table of a study's folder says of where its numbers come from; nothing where there is none."""
    try:
        return read_record(out / "table.json", "a study's table")
    except InputError:
        return {}


def _earlier_seconds(out: Path) -> float:
    """What the study took before it was interrupted, by the table that it left."""
    try:
        return float(earlier_facts(out)["seconds"])
    except (ValueError, KeyError, TypeError):
        return 0.0
