"""Several trainings as jobs of a cluster, by submitit: submitted once, and followed until they end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from switchnorm import signals
from switchnorm.config.cluster import Cluster
from switchnorm.config.schema import Config
from switchnorm.errors import InputError, not_installed
from switchnorm.files import write_file, writing
from switchnorm.processes import cores
from switchnorm.studies.cluster_job import Job
from switchnorm.studies.folder import Plan
from switchnorm.studies.parallel import Outcome, Watch, ended_as, has_ended
from switchnorm.studies.slurm import TIMEOUTS, Slurm

_TICK_SECONDS = 1.0
#: After how many answers in which a job was gone it has ended.
_GONE = 2
_SAVING_SECONDS = 60.0
_LOCAL_MINUTES = 60 * 24 * 365


class Engine(Protocol):
    """Where jobs are queued and run."""

    at_once: int
    """How many jobs it takes at a time."""

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Queue jobs; returns their numbers."""

    def states(self, numbers: Sequence[str]) -> Mapping[str, str]:
        """Of those of these jobs that are queued or run "PENDING", "RUNNING" or the like."""

    def waits(self) -> Sequence[str]:
        """What keeps the jobs that wait from starting, in lines that have not been said yet."""

    def hopeless(self, number: str) -> str:
        """Why a job that waits will never start; "" where it may."""

    def ending(self, number: str) -> str:
        """How a job that is gone has ended: "was cancelled" or the like."""

    def cancel(self, number: str) -> None:
        """End a job of which nothing more is expected."""

    def left(self, numbers: Sequence[str]) -> str:
        """What is to be said, and done, as these jobs are no longer followed."""


def train_on(
    cluster: Cluster, plan: Plan, command: Sequence[str], watch: Watch, *, workers: int, logs: Path
) -> dict[Path, Outcome]:
    """Train every run of a plan that is not finished yet in a job, as `parallel.train_all` does on this machine.

    Jobs of an earlier call that are still there are followed, and not submitted again.

    Args:
        cluster: where.
        plan, command, watch: as `train_all`.
        workers: jobs that run at a time.
        logs: folder for what each training prints, NAME.log; and, in `jobs`, for what submitit keeps of each job.

    Returns:
        How each run ended.

    Raises:
        InputError: submitit is missing, or the cluster refuses the jobs.
        Interrupted: a signal; says where the jobs are.
    """
    outcomes: dict[Path, Outcome] = {}
    for path, _ in plan:
        if has_ended(path):
            outcomes[path] = ended_as(path)
            watch.ended(path, outcomes[path])
    waiting = [(path, config) for path, config in plan if path not in outcomes]
    if not waiting:
        return outcomes
    folder = logs.absolute() / "jobs"
    engine = _engine(cluster, folder, workers, [config for _, config in waiting])
    threads = cluster.cpus or (1 if cluster.engine == "slurm" else max(cores() // min(workers, len(plan)), 1))
    followed = {path: number for path, number in _earlier(folder).items() if path in dict(waiting)}
    alive = engine.states(list(followed.values()))
    busy = {path: number for path, number in followed.items() if number in alive}
    waiting = [(path, config) for path, config in waiting if path not in busy]
    began: set[Path] = set()
    gone: dict[Path, int] = {}
    try:
        while waiting or busy:
            if waiting and len(busy) < engine.at_once:
                now, waiting = waiting[: engine.at_once - len(busy)], waiting[engine.at_once - len(busy) :]
                jobs = [Job(path, config, tuple(command), logs / f"{path.name}.log", threads) for path, config in now]
                busy |= dict(zip((path for path, _ in now), engine.submit(jobs), strict=True))
                _keep(folder, busy)
            states = engine.states(list(busy.values()))
            for path, number in list(busy.items()):
                if path not in began and (states.get(number) == "RUNNING" or number not in states):
                    began.add(path)
                    watch.started(path)
                gone[path] = 0 if number in states else gone.get(path, 0) + 1
                outcome = _outcome(folder, number, cluster)
                if outcome is None and gone[path] >= _GONE:
                    how = engine.ending(number)
                    outcome = ended_as(path) if has_ended(path) else Outcome(error=_lost(folder, number, how))
                if outcome is None and (why := engine.hopeless(number)):
                    outcome = Outcome(error=why)
                if outcome is not None:
                    if outcome.error and number in states:
                        # Of a job whose nodes are lost SLURM would begin again what has been said to have failed.
                        engine.cancel(number)
                    if path not in began:
                        watch.started(path)
                    if outcome.traceback:
                        outcome = replace(outcome, error=f"{outcome.error} (see {logs / path.name}.log)")
                    del busy[path]
                    outcomes[path] = outcome
                    watch.ended(path, outcome)
            _keep(folder, busy)
            for line in engine.waits():
                watch.say(line)
            watch.tick()
            time.sleep(_TICK_SECONDS)
    except signals.Interrupted as error:
        raise signals.Interrupted(error.number, engine.left(list(busy.values()))) from None
    except BaseException:
        engine.left(list(busy.values()))
        for each in (folder, logs):  # of jobs that were refused nothing is left
            with contextlib.suppress(OSError):
                each.rmdir()
        raise
    return outcomes


def _engine(cluster: Cluster, folder: Path, workers: int, configs: Sequence[Config]) -> Engine:
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise not_installed(("submitit",), "--cluster", "cluster") from None
    if "%" in str(folder):
        raise InputError(f"submitit gives % a meaning of its own, and {str(folder)!r} has one; choose another --out")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # What is not asked for a job does not see, so that "auto" would be the CPU.
    wanted = ("auto", "cuda") if cluster.engine == "local" and torch.cuda.is_available() else ("cuda",)
    gpus = cluster.gpus
    if gpus is None and any(config.train.device in wanted for config in configs):
        gpus = cluster.tasks
    return (Slurm if cluster.engine == "slurm" else _Local)(cluster, folder, workers, gpus)


class _Local:
    """Jobs on this machine, which end with the process that follows them."""

    def __init__(self, cluster: Cluster, folder: Path, workers: int, gpus: int | None) -> None:
        import submitit

        self.at_once = workers
        self.executor = submitit.LocalExecutor(folder, max_num_timeout=TIMEOUTS)
        self.executor.update_parameters(
            timeout_min=cluster.minutes or _LOCAL_MINUTES, tasks_per_node=cluster.tasks, gpus_per_node=gpus or 0
        )
        self.jobs: dict[str, Any] = {}

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        # Ctrl-C reaches all processes of a terminal, and a job's controller would kill it a second later.
        with signals.blocked((signal.SIGINT, signal.SIGHUP)):
            found = [self.executor.submit(job) for job in jobs]
        self.jobs |= {str(each.job_id): each for each in found}
        return [str(each.job_id) for each in found]

    def states(self, numbers: Sequence[str]) -> Mapping[str, str]:
        return {number: "RUNNING" for number in numbers if number in self.jobs and not self.jobs[number].done()}

    def waits(self) -> Sequence[str]:
        return ()

    def hopeless(self, number: str) -> str:
        return ""

    def ending(self, number: str) -> str:
        return "stopped"

    def cancel(self, number: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(number), signal.SIGTERM)  # the controller passes it on, and they save themselves

    def left(self, numbers: Sequence[str]) -> str:
        for number in self.states(numbers):
            self.cancel(number)
        deadline = time.monotonic() + _SAVING_SECONDS
        while self.states(numbers) and time.monotonic() < deadline:
            time.sleep(0.1)
        return ""


def _outcome(folder: Path, number: str, cluster: Cluster) -> Outcome | None:
    """What a job's processes returned; None before the first of them, or one that failed, has."""
    from submitit.core.utils import JobPaths, pickle_load

    found: list[Outcome] = []
    for task in range((cluster.nodes or 1) * cluster.tasks):
        file = JobPaths(folder, number, task).result_pickle
        if file.exists():
            kind, value = pickle_load(file)
            last = str(value).strip().splitlines()[-1:] or [""]
            found.append(
                value
                if kind == "success"
                else Outcome(error=f"{last[0]} (see {JobPaths(folder, number, task).stderr})")
            )
        elif task == 0:
            return None
    return next((each for each in found if each.error), found[0])


def _lost(folder: Path, number: str, how: str) -> str:
    from submitit.core.utils import JobPaths

    paths = JobPaths(folder, number)
    log = paths.stderr if paths.stderr.exists() else paths.stdout
    see = f" (see {log})" if log.exists() else ""  # a job that was cancelled as it waited has none
    return f"job {number} {how} before its training ended{see}; the same command continues it"


def _earlier(folder: Path) -> dict[Path, str]:
    """The jobs that an earlier call left, by run folder."""
    try:
        found = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
        return {Path(path): str(number) for path, number in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _keep(folder: Path, jobs: Mapping[Path, str]) -> None:
    """Write down which jobs are there, unless it says so."""
    if _earlier(folder) != dict(jobs):
        write_file(
            folder / "jobs.json", json.dumps({str(path): number for path, number in jobs.items()}, indent=1) + "\n"
        )
