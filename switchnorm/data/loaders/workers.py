"""Batches from worker processes, in order."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Iterable, Iterator
from multiprocessing import context, forkserver
from typing import Any

import torch
from torch.utils.data import DataLoader

from switchnorm.data.files.remarks import Remarks
from switchnorm.data.loaders.reader import BatchReader, Failure, ReadT, RequestT, Success
from switchnorm.errors import InputError
from switchnorm.processes import cores, end_with_parent, ending
from switchnorm.signals import blocked

#: How long the end of a process may take to be known after what it broke.
_ENDING_SECONDS = 2.0


def default_workers() -> int:
    """The cores of this process less one."""
    return cores() - 1


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
    batches = _started(loader)
    for remaining in reversed(range(count)):
        batch = _next(batches, workers)
        if isinstance(batch, Failure):
            raise InputError(batch.message)
        remarks.add(batch.remarks)
        if not remaining:
            next(batches, None)  # ends the processes
            remarks.say()
        yield batch.batch


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader, whose processes have been started."""
    try:
        return iter(loader)
    except (OSError, EOFError) as error:  # of a pipe to the server that forks them, or for want of processes or files
        why = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(
            f"processes that read pictures cannot be started ({why}); --data.workers 0 reads without any"
        ) from error


def _next(batches: Iterator[Any], workers: int) -> Any:
    """The next batch, unless a process that reads is gone."""
    try:
        return next(batches)
    except (RuntimeError, OSError, EOFError) as error:
        processes = getattr(batches, "_workers", ())
        ended = multiprocessing.connection.wait([each.sentinel for each in processes], _ENDING_SECONDS)
        code = next((each.exitcode for each in processes if each.sentinel in ended and each.exitcode), None)
        if code is None:
            raise
        for each in processes:  # what one of them held when it ended another may wait for
            each.kill()
        # The server that forks them tells how they end; 255 stands for no answer.
        how = "was lost with the process that started it" if code == 255 else ending(code)
        raise InputError(
            f"one of {workers} processes that read pictures {how}; each of them holds batches of its own: take fewer, "
            "by data.workers, which changes no result, or smaller batches"
        ) from error


def _as_it_is(batch: Any) -> Any:
    return batch


def _start(_: int) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where they are not forked with it blocked
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE"):  # of which torch lets workers print a line
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


class _Reader(context.ForkServerProcess):
    """A process that hears no SIGTERM, and so is killed where it shall end before it has finished."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        popen = context.ForkServerProcess._Popen(process_obj)
        popen.terminate = popen.kill  # type: ignore[method-assign]
        return popen


class _Readers(context.ForkServerContext):
    """Processes forked from one without threads."""

    Process = _Reader


def _context() -> Any:
    """Processes forked from one without threads: a copy of a process with threads may wait forever for one of them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forking = _Readers()
    names = ("loaders.picture_readers", "segmentation.scene_readers", "detection.training_reader")
    readers = [f"switchnorm.data.{name}" for name in names]
    forking.set_forkserver_preload(["__main__", *readers])  # import once instead of in every worker
    with blocked():
        forkserver.ensure_running()
    return forking
