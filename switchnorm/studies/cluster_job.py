"""One training as a job of a cluster, which saves itself and is queued again when its time is up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from switchnorm import signals
from switchnorm.config.schema import Config
from switchnorm.processes import is_first
from switchnorm.studies.parallel import Outcome, printing_to, train_one
from switchnorm.text import say

#: What SLURM sends before the time is up, or submitit's local jobs do; such a job is queued again.
_AGAIN = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))


@dataclass(frozen=True)
class Job:
    """A training that submitit starts, in each of its processes, as often as it is queued.

    Args:
        path: the run folder; a run that is there is continued.
        config: of the run.
        command: how it was started, for its record.
        log: the file for what is printed.
        threads: of torch's computations in each process. Their number changes how results are rounded, so it is that of
            the first start whatever the machine.
    """

    path: Path
    config: Config
    command: tuple[str, ...]
    log: Path
    threads: int

    def __call__(self) -> Outcome:
        """Train; does not return where a signal has ended it before its end, but ends the process."""
        from submitit import JobEnvironment

        environment = JobEnvironment()
        # Where SLURM begins a job again whose nodes it lost, whoever follows it must not read how that ended.
        environment.paths.result_pickle.unlink(missing_ok=True)
        _join(environment)
        torch.set_num_threads(self.threads)
        # submitit hears one of the two, and would leave the training at once; to SIGTERM it turns a deaf ear.
        queue_again = next((found for each in _AGAIN if callable(found := signal.getsignal(each))), None)
        for number in signals.ENDING:
            signal.signal(number, signal.SIG_DFL)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ENDING)
        try:
            # What the others print stays in submitit's files.
            printing = printing_to(self.log) if is_first() else contextlib.nullcontext()
            with printing, signals.Ending() as heard:
                return train_one(self.path, self.config, self.command, quiet=False)
        except signals.Interrupted as error:
            say(error.said)
            again = heard.received in _AGAIN or _is_preempted(environment)
            if again and queue_again is not None and is_first():
                queue_again(heard.received, None)  # writes the job anew, and ends this process
            # The other processes of a job leave this to the first, and must not look as if they had failed.
            sys.exit(error.exit_code if is_first() else 0)

    def checkpoint(self, *args: Any) -> Any:
        """What is queued again: the same, for the run folder knows where it stopped."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _is_preempted(environment: Any) -> bool:
    """Whether SLURM lets the job run that it sent SIGTERM: one that is cancelled is ending already."""
    if environment.cluster != "slurm":
        return False
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={environment.job_id}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "RUNNING"


def _join(environment: Any) -> None:
    """Let the processes of a job find each other as those that torchrun starts do."""
    if environment.num_tasks == 1:
        return
    from submitit.helpers import TorchDistributedEnvironment

    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    os.environ["GROUP_RANK"] = str(environment.node)
