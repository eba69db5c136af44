"""Timing side by side: clocks, rounds, and ratios of what they gave."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

Call = Callable[[], object]


class Ratio(NamedTuple):
    """How much one thing is of another.

    Attributes:
        value: the median over rounds, or the geometric mean over cases.
        low, high: the first and last decile over rounds, or the lowest and highest value over cases.
    """

    value: float
    low: float
    high: float

    @classmethod
    def over_rounds(cls, numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
        """Compare round by round: what meets the same machine in the same moment."""
        ratios = [above / below for above, below in zip(numerators, denominators, strict=True)]
        if len(ratios) == 1:
            return cls(ratios[0], ratios[0], ratios[0])
        deciles = statistics.quantiles(ratios, n=10, method="inclusive")
        return cls(statistics.median(ratios), deciles[0], deciles[-1])

    @classmethod
    def over_cases(cls, ratios: Sequence[Ratio]) -> Ratio:
        """Sum up the ratios of several cases; that of a single case stays what it is."""
        if len(ratios) == 1:
            return ratios[0]
        values = [ratio.value for ratio in ratios]
        return cls(statistics.geometric_mean(values), min(values), max(values))


@dataclass(frozen=True)
class Effort:
    """How long a case is timed.

    Attributes:
        seconds: what its rounds may take together, as far as `fewest` and `most` rounds allow.
        fewest, most: numbers of rounds.
        sample: seconds that one timing covers at least, by repeating what is shorter.
        warmups: calls of each way that come first and are not counted, at least one.
    """

    seconds: float = 0.0
    fewest: int = 1
    most: int = 50
    sample: float = 0.0
    warmups: int = 1


class Seconds(NamedTuple):
    """Seconds per call in every round: by the clock, and those that the process's threads worked."""

    clock: list[float]
    cpu: list[float]


def interleave(ways: Mapping[str, Call], effort: Effort, device: torch.device | str = "cpu") -> dict[str, Seconds]:
    """Time each way in every round: A B C, A B C, ...

    Neighbours in time meet the same machine, whatever else it does meanwhile, so they are compared round by round.
    """
    if not ways:  # none had the right result
        return {}
    clock = _CLOCKS[torch.device(device).type]
    once = {name: [clock(call, 1) for _ in range(effort.warmups)][-1] for name, call in ways.items()}
    repeats = {name: max(1, math.ceil(effort.sample / seconds)) for name, seconds in once.items()}
    round_seconds = sum(repeats[name] * seconds for name, seconds in once.items())
    rounds = min(effort.most, max(effort.fewest, int(effort.seconds / round_seconds)))
    seconds = {name: Seconds([], []) for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            began = time.process_time()
            seconds[name].clock.append(clock(call, repeats[name]))
            seconds[name].cpu.append((time.process_time() - began) / repeats[name])
    return seconds


def _wall_clock(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _cuda_clock(call: Call, repeats: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


_CLOCKS: dict[str, Callable[[Call, int], float]] = {"cpu": _wall_clock, "cuda": _cuda_clock}
