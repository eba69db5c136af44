"""Several trainings side by side on one machine, in processes that end with the study."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol

import torch

from switchnorm import signals
from switchnorm.config import plugins
from switchnorm.config.deciding import undeciding_changes
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.files import WriteError
from switchnorm.processes import cores, end_with_parent, ending
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.folder import Plan
from switchnorm.training.launch import resume, start
from switchnorm.training.ownership import of_first

# A fresh interpreter for each worker: forking a process that has run torch's threads can hang.
_CONTEXT = multiprocessing.get_context("spawn")
_TICK_SECONDS = 1.0
#: So long a training has to save itself, below the half minute between SLURM's SIGTERM and its SIGKILL.
_SAVING_SECONDS = 20.0
#: What one training may take of a GPU's memory, by a wide margin for the networks of studies.
_BYTES_PER_TRAINING = 4 * 2**30


@dataclass(frozen=True)
class Outcome:
    """How a training ended: with the result that its record keeps, or with the reason why there is none."""

    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    traceback: bool = False
    """Whether a traceback was printed, which no mistake of a user has."""
    stopped: int | None = None
    """After how many epochs `train.patience` ended it, if it did."""


class Watch(Protocol):
    """What `train_all` reports to as trainings start and end."""

    def started(self, path: Path) -> None:
        """A training was given to a worker."""

    def ended(self, path: Path, outcome: Outcome) -> None:
        """A training ended, or was finished before."""

    def say(self, line: str) -> None:
        """Something of all of them is to be known."""

    def tick(self) -> None:
        """About a second has passed."""


def default_workers(device: str) -> int:
    """How many trainings a device takes side by side: one per core, on a GPU as far as its memory goes."""
    if device != "cuda" or not torch.cuda.is_available():
        return cores() if device == "cpu" else 1
    return max(min(cores(), torch.cuda.mem_get_info()[0] // _BYTES_PER_TRAINING), 1)


def train_all(
    plan: Plan, command: Sequence[str], watch: Watch, *, workers: int | None = None, logs: Path | None = None
) -> dict[Path, Outcome]:
    """Train every run of a plan that is not finished yet, and continue those that were interrupted.

    A training that fails does not disturb the others, not even by taking its process with it.

    Args:
        plan: run folders and their configurations, in the order in which they shall start.
        command: how the study was started, for the runs' records.
        watch: is told as each run starts and ends, finished ones included.
        workers: processes side by side; by default one per core.
        logs: folder for what a training prints, and for the traceback of one that fails; None throws that away.

    Returns:
        How each run ended.
    """
    outcomes: dict[Path, Outcome] = {}
    waiting = deque(plan)
    for path, config in plan:
        if has_ended(path):
            outcomes[path] = ended_as(path)
            waiting.remove((path, config))
            watch.ended(path, outcomes[path])
    count = min(workers or cores(), len(plan))
    # Computed from the whole plan, not from what is left of it, so that a study that is continued uses as many threads:
    # their number changes how results are rounded.
    threads = max(cores() // count, 1)
    busy: dict[connection.Connection, _Worker] = {}
    idle: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < count:
                worker = idle.pop() if idle else _Worker(threads, tuple(command), logs)
                path, config = waiting.popleft()
                worker.train(path, config)
                busy[worker.pipe] = worker
                watch.started(path)
            ready = connection.wait(list(busy), _TICK_SECONDS)
            for worker in [worker for pipe, worker in busy.items() if pipe in ready]:
                del busy[worker.pipe]
                outcomes[worker.path] = worker.outcome()
                if worker.process.is_alive():
                    idle.append(worker)
                watch.ended(worker.path, outcomes[worker.path])
            watch.tick()
    finally:
        for worker in busy.values():
            worker.interrupt()
        deadline = time.monotonic() + _SAVING_SECONDS
        for worker in (*busy.values(), *idle):
            worker.stop(deadline if worker.pipe in busy else 0.0)
    return outcomes


class _Worker:
    """A process that trains one run after the other.

    Args:
        threads: of torch's computations in it.
        command: as `train_all`.
        logs: as `train_all`.
    """

    path: Path

    def __init__(self, threads: int, command: tuple[str, ...], logs: Path | None) -> None:
        self.pipe, child_end = _CONTEXT.Pipe()
        # Not a daemon: daemons may not start processes, and a run may read its pictures in worker processes.
        self.process = _CONTEXT.Process(target=_work, args=(child_end, threads, command, logs))
        with signals.blocked():
            self.process.start()
        child_end.close()  # so that the pipe is closed as soon as the process ends

    def train(self, path: Path, config: Config) -> None:
        """Give it a run."""
        self.path = path
        with contextlib.suppress(OSError):  # it is gone already, which `outcome` finds out
            self.pipe.send((path, config))

    def outcome(self) -> Outcome:
        """How its run ended, once the pipe has something; a process that is gone has failed it."""
        try:
            outcome = self.pipe.recv()
            assert isinstance(outcome, Outcome)
            return outcome
        except (EOFError, OSError):
            self.process.join()
            return Outcome(error=f"its process {ending(self.process.exitcode or 0)}")

    def interrupt(self) -> None:
        """Have it save what it trains, and end."""
        self.process.terminate()

    def stop(self, deadline: float) -> None:
        """End it, at once from a moment of the monotonic clock on; what it trains can be resumed."""
        self.process.join(max(deadline - time.monotonic(), 0))
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: connection.Connection, threads: int, command: tuple[str, ...], logs: Path | None) -> None:
    end_with_parent()  # left alone it would write to the run folder that a continued study writes to
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # it was started with all of them blocked
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # which the parent sends, whatever it got itself
    torch.set_num_threads(threads)
    while True:
        try:
            path, config = pipe.recv()
        except EOFError:
            return
        try:
            with printing_to(None if logs is None else logs / f"{path.name}.log"), signals.Ending() as heard:
                outcome = train_one(path, config, command)
            if heard.received:  # too late to stop the training, and not to stop
                return
        except signals.Interrupted:
            return
        except OSError as error:  # of its log: whatever the training raises is an outcome
            assert logs is not None
            outcome = Outcome(error=str(WriteError(logs / f"{path.name}.log", error)))
        if logs is not None and outcome.traceback:
            outcome = replace(outcome, error=f"{outcome.error} (see {logs / path.name}.log)")
        pipe.send(outcome)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


@contextlib.contextmanager
def printing_to(log: Path | None) -> Iterator[None]:
    """Redirect what this process prints to a file, which is removed if it stays empty."""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with open(os.devnull if log is None else log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if log is not None and not log.stat().st_size:
            log.unlink()


def train_one(path: Path, config: Config, command: Sequence[str], *, quiet: bool = True) -> Outcome:
    """Train one run, or continue it, in this process; whatever goes wrong with it is the outcome."""
    try:
        plugins.load(config.plugins)  # this process is a new one, which has imported nothing yet
        if of_first(lambda: "there" if (path / "run.json").is_file() else ""):
            resume(path, _flags(RunFolder.open(path).config(), config), quiet=quiet)
        else:
            start(config, path, default=path, command=command, quiet=quiet)
        return ended_as(path)
    except InputError as error:
        return Outcome(error=str(error))
    except Exception as error:
        traceback.print_exc()
        said = str(error).strip().partition("\n")[0]
        return Outcome(error=f"{type(error).__name__}: {said}", traceback=True)


def _flags(written: Config, config: Config) -> list[str]:
    """The flags that let a run go on with what its study says by now: where the data lies, and what decides nothing."""
    changes = undeciding_changes(written, config)
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changes.items()]


def has_ended(path: Path) -> bool:
    """Whether a run is there that needs no more training."""
    if not (path / "run.json").is_file():
        return False
    run = RunFolder.open(path)
    return run.finished() or run.diverged() is not None


def ended_as(path: Path) -> Outcome:
    """The result of a run that has ended; an error instead if it diverged, or its loss was no number at the end."""
    run = RunFolder.open(path)
    if (where := run.diverged()) is not None:
        return Outcome(error=f"diverged in epoch {where.get('epoch')}: {where.get('first')} is not finite")
    rows = run.metrics()
    diverged = list(itertools.takewhile(_is_diverged, reversed(rows)))
    if diverged:
        return Outcome(error=f"diverged in epoch {diverged[-1]['epoch']}: the loss is no number")
    record = run.record()
    if not record.get("result"):
        return Outcome(error=f"{run.record_file} has no result; `switchnorm train --resume {path}` writes it anew")
    return Outcome(dict(record["result"]), stopped=(record.get("stopped") or {}).get("after_epochs"))


def _is_diverged(row: Mapping[str, str]) -> bool:
    return not all(math.isfinite(float(row[loss] or 0)) for loss in ("train_loss", "val_loss"))
