"""Several trainings side by side on one machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from switchnorm.training.config import Config
from switchnorm.training.launch import resume, start
from switchnorm.training.run_folder import RunFolder


def train_all(
    plan: Sequence[tuple[Path, Config]],
    command: Sequence[str],
    report: Callable[[Path, dict[str, Any]], None],
    workers: int | None = None,
) -> None:
    """Train every run of a plan that is not finished yet, and continue those that were interrupted.

    Args:
        plan: run folders and their configurations.
        command: how the study was started, for the runs' records.
        report: called with folder and result as each run ends, finished ones included.
        workers: processes side by side; by default one per core, each with one thread.
    """
    cores = os.cpu_count() or 1
    workers = min(workers or cores, len(plan))
    # A fresh interpreter for each worker: forking a process that has run torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    threads = max(cores // workers, 1)
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        futures = {pool.submit(_train_one, path, config, tuple(command)): path for path, config in plan}
        try:
            for future in as_completed(futures):
                report(futures[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train_one(path: Path, config: Config, command: tuple[str, ...]) -> dict[str, Any]:
    if (path / "run.json").is_file():
        run = RunFolder.open(path)
        if run.finished():
            return dict(run.record()["result"])
        return resume(path, quiet=True)[1]
    return start(config, path, default=path, command=command, quiet=True)[1]
