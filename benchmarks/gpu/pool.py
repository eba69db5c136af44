"""Processes side by side, each with a CUDA context of its own, that are ended when their time is up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple

# Forked, so that nothing is imported again; whoever forks has not touched CUDA, nor torch's threads.
CONTEXT = multiprocessing.get_context("fork")


class Done(NamedTuple):
    """A task that ended: its place, what it returned, and why it failed, "" if it did not."""

    place: int
    result: Any
    error: str


def work(tasks: Sequence[Any], do: Callable[[Any], Any], workers: int, deadline: float) -> Iterator[Done]:
    """Each task as it ends, begun in their order, until the deadline of `time.monotonic`."""
    place = CONTEXT.Value("i", 0)
    pipes: list[connection.Connection] = []
    processes = []
    for _ in range(min(workers, len(tasks))):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_worker, args=(tasks, do, place, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        while pipes and (left := deadline - time.monotonic()) > 0:
            for pipe in connection.wait(pipes, left):
                assert isinstance(pipe, connection.Connection)
                try:
                    yield pipe.recv()
                except EOFError:
                    pipes.remove(pipe)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _worker(tasks: Sequence[Any], do: Callable[[Any], Any], place: Any, pipe: connection.Connection) -> None:
    end_with(os.getppid())
    while True:
        with place.get_lock():
            mine = place.value
            place.value += 1
        if mine >= len(tasks):
            return
        try:
            pipe.send(Done(mine, do(tasks[mine]), ""))
        except Exception as error:
            pipe.send(Done(mine, None, told(error)))
            if "CUDA error" in str(error):  # nothing works any more in this process
                return


def told(error: BaseException) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or [''])[0]}"[:400]


def end_with(parent: int) -> None:
    """End this process, on Linux, when the one that forked it is gone, however that ended."""
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was gone before
        os._exit(1)
