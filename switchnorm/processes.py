"""Which of the processes that torchrun started this is; needs no torch. Without torchrun there is one."""

from __future__ import annotations

import os


def world_size() -> int:
    """How many processes there are, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """How many processes there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def is_launched() -> bool:
    """Whether torchrun started this process, be it as the only one."""
    return "WORLD_SIZE" in os.environ
