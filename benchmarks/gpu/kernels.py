"""What each kernel of a call takes, by torch's profiler: nothing of the host is in it."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import Call, Effort, interleave

REPEATS = 6
#: Kernels of other libraries have names of hundreds of letters.
_LONGEST = 60


class Kernels(NamedTuple):
    """What a call does on a device.

    Attributes:
        us: microseconds by kernel, the largest first; of the whole call, as "call", where nobody can look into it.
        launches: how many kernels, and copies and fills of memory; 0 where nobody can look.
    """

    us: dict[str, float]
    launches: float

    @property
    def total(self) -> float:
        """Microseconds of all."""
        return round(sum(self.us.values()), 2)


def kernels_of(call: Call, device: str, repeats: int = REPEATS) -> Kernels:
    """What a call comes to, after one that is not counted."""
    call()
    if device == "cpu":
        return _whole(call, device, repeats)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(repeats):
            call()
        torch.cuda.synchronize()
    found: Counter[str] = Counter()
    count = 0
    for event in profiler.key_averages():
        if event.device_time_total > 0:
            found[event.key.removeprefix("void ")[:_LONGEST]] += event.device_time_total / repeats
            count += event.count
    if not found:  # a driver that lets nobody trace
        return _whole(call, device, repeats)
    return Kernels({name: round(us, 2) for name, us in found.most_common()}, count / repeats)


def _whole(call: Call, device: str, repeats: int) -> Kernels:
    seconds = interleave({"call": call}, Effort(fewest=repeats, most=repeats), device)["call"].clock
    return Kernels({"call": round(statistics.median(seconds) * 1e6, 1)}, 0)
