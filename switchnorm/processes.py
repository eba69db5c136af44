"""Which of the processes that torchrun started this is, its cores, and how processes end; needs no torch."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta


def world_size() -> int:
    """How many processes there are, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """How many processes there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores() -> int:
    """The cores that this process may use, shared by those that torchrun started on this machine."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(there // local_world_size(), 1)


def rank() -> int:
    """The number of this process."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def is_launched() -> bool:
    """Whether torchrun started this process, be it as the only one."""
    return "WORLD_SIZE" in os.environ


def first_to_say(line: str) -> bool:
    """Whether no other process that torchrun started has asked this about the same line before.

    What ends all of them is to be said once, and by another one where the first is gone. They ask the store by which
    torchrun lets them find each other; where there is none, each is the first.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    from torch.distributed import TCPStore

    host, port, again = (
        os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    )
    try:
        store = TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
        return store.add(f"switchnorm/{again}/{line}", 1) == 1
    except (RuntimeError, ValueError):
        return True


def end_with_parent() -> None:
    """From now on, end this process of multiprocessing as soon as the one that started it is gone.

    A process that is killed ends none of those that it started. These would wait for work for ever, or write to a run
    that somebody continues; and the server that forks readers lives as long as one of them.
    """
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def ending(code: int) -> str:
    """How a process ended, in words, by its exit code, which is negative for a signal: "was killed ...".

    What the system itself does is named with its usual cause.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    causes = {
        "SIGKILL": "as the system does where memory is short",
        "SIGBUS": "as the system does where shared memory, /dev/shm, is full",
        "SIGSEGV": "by a crash in a library",
        "SIGABRT": "by a crash in a library",
    }
    return f"was killed by {name}{f', {causes[name]}' if name in causes else ''}"
