"""Looking at many samples on all cores, in order and in bounded memory."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from switchnorm.data.files.surveyed import Facts, Surveyed
from switchnorm.errors import InputError
from switchnorm.processes import cores, end_with_parent

#: Samples that a process looks at before it answers, and answers that are waited for, for each process.
_CHUNK, _AHEAD = 16, 4
#: Fewer samples than these are looked at faster than processes start.
_FEW = 64


def look_in_processes(split: Surveyed, indices: Sequence[int]) -> Iterator[tuple[int, Facts]]:
    """What is seen of the samples, with their indices and in their order, by a process on each core.

    The processes import neither torch nor this one's modules, and are gone at the end.

    Raises:
        InputError: the system ended one of them.
    """
    count = min(cores(), -(-len(indices) // _CHUNK))
    if not split.slow or len(indices) < _FEW or count < 2:
        return _look_here(split, indices)
    # Processes that are copies of this one would wait for its threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start)
    return _look(pool, count, split, indices)


def _start() -> None:
    warnings.simplefilter("ignore")  # of decoders; what matters is among the facts
    end_with_parent()


def look_in_threads(split: Surveyed, indices: Sequence[int]) -> Iterator[tuple[int, Facts]]:
    """The same in threads, which start at once; decoding pictures is most of it, and holds up no other thread."""
    count = min(cores(), len(indices))
    if not split.slow or count < 2:
        return _look_here(split, indices)
    return _look(ThreadPoolExecutor(count), count, split, indices, chunk=1)


def _look_here(split: Surveyed, indices: Sequence[int]) -> Iterator[tuple[int, Facts]]:
    look = split.look
    return ((index, look(split.item(index))) for index in indices)


def _look(
    pool: Executor, count: int, split: Surveyed, indices: Sequence[int], chunk: int = _CHUNK
) -> Iterator[tuple[int, Facts]]:
    look = split.look
    waiting: deque[tuple[Sequence[int], Future[list[Facts]]]] = deque()
    starts = iter(range(0, len(indices), chunk))

    def submit(start: int) -> None:
        some = indices[start : start + chunk]
        waiting.append((some, _submitted(pool, look, [split.item(index) for index in some])))

    try:
        for start in itertools.islice(starts, count * _AHEAD):
            submit(start)
        while waiting:
            some, future = waiting.popleft()
            yield from zip(some, future.result(), strict=True)
            for start in itertools.islice(starts, 1):
                submit(start)
    except BrokenProcessPool as error:
        raise InputError(
            f"the system ended a process that looked at {split.name} pictures, most likely because memory is short: "
            f"{count} of them look at a picture each; fewer cores (taskset) need less"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: Executor, look: Callable[[Any], Facts], items: list[Any]) -> Future[list[Facts]]:
    """Hand out some items. Processes start here, with Ctrl-C blocked, which is for the one that waits for them."""
    if not hasattr(signal, "pthread_sigmask") or isinstance(pool, ThreadPoolExecutor):
        return pool.submit(_all, look, items)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_all, look, items)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _all(look: Callable[[Any], Facts], items: list[Any]) -> list[Facts]:
    return [look(item) for item in items]
