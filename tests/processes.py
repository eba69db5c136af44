"""Tests in real processes: each runs a test's file as a program, and leaves what it has found."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.forked import Forked

# A deadlock ends in an error of the collective call first, else with the processes.
COLLECTIVE_SECONDS, PROCESS_SECONDS = 60, 150

Found = dict[Any, Any]


def run(module: str, world: int, folder: Path, *, seconds: float = PROCESS_SECONDS) -> list[Found]:
    """Start `world` processes of a module that ends with `process`; what each has found in `seconds` at most."""
    started = [Forked(("-m", module, str(rank), str(world), str(folder))) for rank in range(world)]
    try:
        errors = [each.communicate(timeout=seconds)[1] for each in started]
    finally:
        for each in started:
            each.kill()
    for each, error in zip(started, errors, strict=True):
        assert each.returncode == 0, error
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def process(find: Callable[[int, int], Found]) -> None:
    """Be one of these processes: what `find` returns of rank and number is what this one has found."""
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    options = {"init_method": f"file://{folder / 'store'}", "timeout": timedelta(seconds=COLLECTIVE_SECONDS)}
    dist.init_process_group("gloo", rank=rank, world_size=world, **options)
    torch.save(find(rank, world), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
