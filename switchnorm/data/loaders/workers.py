"""Batches from worker processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from multiprocessing import forkserver, resource_tracker
from typing import Any

import torch
from torch.utils.data import DataLoader

from switchnorm.data.files.remarks import Remarks
from switchnorm.data.loaders.reader import BatchReader, Failure, ReadT, RequestT, Success
from switchnorm.errors import InputError
from switchnorm.processes import local_world_size


def default_workers() -> int:
    """The cores that this process may use less one, shared by the processes that torchrun started on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // local_world_size() - 1, 0)


def read_batches(
    reader: BatchReader[RequestT, ReadT],
    requests: Iterable[RequestT],
    count: int,
    workers: int,
    device: torch.device | str,
    remarks: Remarks | None = None,
) -> Iterator[ReadT]:
    """The batches asked for, in order; a few are read ahead.

    The processes are new for each call and gone when the last batch is handed out: nothing of an iteration that was
    abandoned can reach the next one.

    Args:
        reader: what reads them.
        requests: what to read.
        count: number of requests.
        workers: number of processes; 0 reads in this one.
        device: where the batches go.
        remarks: where what the reader remarks is kept; what is new is said before the last batch.

    Raises:
        InputError: what the reader found wrong.
    """
    workers = min(workers, count)
    remarks = remarks or Remarks("pictures", count)
    loader: DataLoader[Success | Failure] = DataLoader(
        reader,
        sampler=requests,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context=_context() if workers else None,
        worker_init_fn=_start if workers else None,
        pin_memory=torch.device(device).type == "cuda",
        generator=torch.Generator(),  # of its own: otherwise the loader draws a seed from the run's generator
    )
    batches = iter(loader)
    for remaining in reversed(range(count)):
        batch = next(batches)
        if isinstance(batch, Failure):
            raise InputError(batch.message)
        remarks.add(batch.remarks)
        if not remaining:
            next(batches, None)  # ends the processes
            remarks.say()
        yield batch.batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _start(_: int) -> None:
    # Ctrl-C reaches every process of the terminal. The one that trains handles it, and ends these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _context() -> Any:
    """Processes forked from one without threads: a copy of a process with threads may wait forever for one of them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    readers = ["switchnorm.data.loaders.picture_readers", "switchnorm.data.segmentation.scene_readers"]
    context.set_forkserver_preload(["__main__", *readers])  # import once instead of in every worker
    # Ctrl-C while the server imports would make it, and each worker that it starts, print a traceback. So it starts
    # with the signal blocked, which workers inherit. The tracker starts first, because that unblocks the signal.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context
