"""What of a GPU decides how work is cut for it."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

#: Threads of a warp.
WARP = 32


class Device(NamedTuple):
    """A GPU's properties.

    Attributes:
        name: as torch gives it.
        multiprocessors: how many.
        registers: 32-bit registers of a multiprocessor.
        shared: bytes of shared memory of a multiprocessor.
        threads: most resident threads of a multiprocessor.
    """

    name: str
    multiprocessors: int
    registers: int
    shared: int
    threads: int

    def resident(self, warps: int, registers: int, shared: int) -> int:
        """How many programs a multiprocessor holds, of so many warps, registers a thread and bytes of shared memory."""
        threads = warps * WARP
        return max(1, min(self.threads // threads, self.registers // (registers * threads), self.shared // shared))


#: Compilation, the interpreter and tests plan for these (NVIDIA's data sheets; names as torch gives them).
H100 = Device("NVIDIA H100 80GB HBM3", 132, 65536, 228 << 10, 2048)
H200 = Device("NVIDIA H200", 132, 65536, 228 << 10, 2048)


def device_of(device: torch.device) -> Device:
    """The properties of a CUDA device, asked once; an H200's where there is none."""
    if device.type != "cuda":
        return H200
    return _read(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _read(index: int) -> Device:
    found = torch.cuda.get_device_properties(index)
    return Device(
        found.name,
        found.multi_processor_count,
        found.regs_per_multiprocessor,
        found.shared_memory_per_multiprocessor,
        found.max_threads_per_multi_processor,
    )
