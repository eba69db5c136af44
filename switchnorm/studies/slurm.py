"""Jobs of SLURM: submitting them, and what it says of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from switchnorm.config.cluster import Cluster
from switchnorm.errors import InputError
from switchnorm.studies.cluster_job import Job

#: What submitit counts as running out of time is how a long training gets on.
TIMEOUTS = 1000
#: How often SLURM is asked, which asks for few questions.
_ASK_SECONDS = 5.0
_MINUTES = 240

#: States that a job does not leave, in words.
_ENDED = {
    "BOOT_FAIL": "was given a node that did not start",
    "CANCELLED": "was cancelled",
    "COMPLETED": "stopped",
    "DEADLINE": "passed its deadline",
    "FAILED": "failed",
    "NODE_FAIL": "lost a node",
    "OUT_OF_MEMORY": "ran out of memory",
    "TIMEOUT": "ran out of time",
}
#: Why jobs wait whose turn comes.
_ORDINARY = ("", "None", "Priority", "Resources", "BeginTime", "JobArrayTaskLimit")
#: Why jobs wait for ever: reasons of squeue, and what to ask for instead.
_NEVER = {
    "PartitionTimeLimit": "its partition allows less --time",
    "PartitionNodeLimit": "its partition allows another number of --nodes",
    "BadConstraints": "no node has what it asks for",
    "AccountNotAllowed": "its partition is for another --account",
    "QOSNotAllowed": "its partition is for another quality of service",
    "InvalidAccount": "there is no such --account for you",
    "AssocMaxWallDurationPerJobLimit": "your account allows less --time",
    "QOSMaxWallDurationPerJobLimit": "your quality of service allows less --time",
}


#: Also said of these as a sentence: "Job's account not permitted to use this partition (...)".
_NOT_ALLOWED = "use this partition"


class State(NamedTuple):
    """What squeue says of a job: PENDING, RUNNING or the like, and why."""

    name: str
    reason: str = ""

    @property
    def here(self) -> bool:
        """Whether it waits or runs."""
        return self.name not in _ENDED

    @property
    def never(self) -> str:
        """Why it waits for ever; "" where it may start."""
        if self.name != "PENDING":
            return ""
        if _NOT_ALLOWED in self.reason:
            return self.reason
        return f"{self.reason}, {_NEVER[self.reason]}" if self.reason in _NEVER else ""


class Slurm:
    """Jobs of SLURM, which go on whoever follows them; an `Engine` of `cluster.train_on`.

    Args:
        cluster: what each job asks for.
        folder: of scripts, pickles and logs.
        workers: jobs of an array that run at a time.
        gpus: of each node; None for none.

    Raises:
        InputError: SLURM's commands are missing.
    """

    def __init__(self, cluster: Cluster, folder: Path, workers: int, gpus: int | None) -> None:
        import submitit

        try:
            self.executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
        except RuntimeError:
            raise InputError(
                "--cluster slurm needs `srun`, which is not here; use --cluster local, or a login node"
            ) from None
        cpus = cluster.cpus or 1
        asked = {
            "time": cluster.minutes or _MINUTES,
            "partition": cluster.partition,
            "account": cluster.account,
            "nodes": cluster.nodes or 1,
            "ntasks_per_node": cluster.tasks,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "mem": None if cluster.memory is None else f"{cluster.memory}G",
        }
        self.executor.update_parameters(
            job_name="switchnorm",
            array_parallelism=workers,
            additional_parameters={"requeue": True},
            srun_args=["--cpus-per-task", str(cpus)],  # which srun no longer takes from the job
            **{name: value for name, value in asked.items() if value is not None},
        )
        self.folder = folder
        self.at_once = 10**6
        self.asked = float("-inf")
        self.known: dict[str, State] = {}
        self.silent = ""
        self.said: frozenset[str] = frozenset()

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Queue jobs, as an array where there are several; of jobs that are refused no file is left."""
        from submitit.core.utils import FailedJobError

        before = {*self.folder.iterdir()}
        try:
            with _silent(), self.executor.batch():
                found = [self.executor.submit(job) for job in jobs]
        except FailedJobError as error:
            for file in {*self.folder.iterdir()} - before:
                file.unlink()
            raise InputError(f"SLURM refuses the job: {_said(str(error)) or 'sbatch failed'}") from None
        self.asked = time.monotonic()
        numbers = [str(each.job_id) for each in found]
        self.known |= dict.fromkeys(numbers, State("PENDING"))
        return numbers

    def states(self, numbers: Sequence[str]) -> Mapping[str, str]:
        """Of those of these jobs that are there, what each does.

        Raises:
            InputError: SLURM has never answered yet, so that nothing is known of them.
        """
        if numbers and time.monotonic() - self.asked >= _ASK_SECONDS:
            wanted = ",".join(sorted({number.partition("_")[0] for number in numbers}))
            command = ["squeue", "--noheader", "--array", "--states=all", "--format=%F_%K|%A|%T|%r", f"--jobs={wanted}"]
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
            # Without an answer nothing is known to have changed; jobs that it has forgotten are an answer.
            answered = asked.returncode == 0 or "Invalid job id" in asked.stderr
            self.silent = "" if answered else f"SLURM does not answer: {_said(asked.stderr)}"
            if answered:
                self.known = read_states(asked.stdout)
            elif self.asked == float("-inf"):
                raise InputError(f"{self.silent}; the same command follows job {wanted} again")
            self.asked = time.monotonic()
        return {
            number: self.known[number].name for number in numbers if number in self.known and self.known[number].here
        }

    def waits(self) -> Sequence[str]:
        """What keeps jobs from starting, but for the queue, as often as it changes."""
        reasons: dict[str, set[str]] = defaultdict(set)
        for number, state in self.known.items():
            if state.name == "PENDING" and state.reason not in _ORDINARY and not state.never:
                reasons[state.reason].add(number.partition("_")[0])
        lines = [f"job {', '.join(sorted(jobs))} waits: {reason}" for reason, jobs in reasons.items()]
        now = [line for line in (self.silent, *lines) if line]
        new = [line for line in now if line not in self.said]
        self.said = frozenset(now)
        return new

    def hopeless(self, number: str) -> str:
        """Why a job that waits never starts; "" where it may."""
        why = self.known.get(number, State("")).never
        return why and f"SLURM never starts job {number}, which is cancelled: {why}"

    def ending(self, number: str) -> str:
        """How a job that is gone has ended, in words."""
        return _ENDED.get(self.known.get(number, State("")).name, "stopped")

    def cancel(self, number: str) -> None:
        """End a job, or take it from the queue."""
        subprocess.run(["scancel", number], capture_output=True, check=False)

    def left(self, numbers: Sequence[str]) -> str:
        """What is to be said as these jobs are no longer followed; they go on."""
        whole = sorted({number.partition("_")[0] for number in numbers})
        if not whole:
            return ""
        return f"the same command follows job {', '.join(whole)} again; `scancel {' '.join(whole)}` ends it"


def read_states(text: str) -> dict[str, State]:
    """What squeue lists, in lines of ARRAY_TASK|NUMBER|STATE|REASON, by the number as submitit has it."""
    found = {}
    for line in text.splitlines():
        in_array, alone, name, reason = line.strip().split("|", 3)
        found[alone if in_array.endswith("_N/A") else in_array] = State(name, reason)
    return found


def _said(text: str) -> str:
    """What SLURM's commands print of an error, in a line that says each thing once."""
    lines = (line.rpartition(" error: ")[2].strip() for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what submitit prints of sbatch's errors, which is in the error that it raises too."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
