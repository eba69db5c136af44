"""Timing side by side, and the record of where it happened."""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from switchnorm.training.provenance import hardware, versions


def interleave(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each case in every round: A B C, A B C, ...; a round before the first is not counted.

    Neighbours in time meet the same machine, whatever else it does meanwhile, so they are compared round by round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(rounds + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


@dataclass(frozen=True)
class Comparison:
    """Two ways to the same result, timed in the same rounds.

    Args:
        name: what is compared.
        ours: what switchnorm does.
        theirs: what it is compared with.
        unit: what is counted, for example "images".
        amount: how many of them one timing covers.
        ours_seconds: a time per round, two at least.
        theirs_seconds: the other's time in the same rounds.
        target: the ratio of speeds that was aimed for.
    """

    name: str
    ours: str
    theirs: str
    unit: str
    amount: int
    ours_seconds: list[float]
    theirs_seconds: list[float]
    target: float

    def summary(self) -> dict[str, Any]:
        """Median speeds in units per second, and the ratio ours / theirs: its median, first and last decile."""
        ratios = [theirs / ours for ours, theirs in zip(self.ours_seconds, self.theirs_seconds, strict=True)]
        deciles = statistics.quantiles(ratios, n=10, method="inclusive")
        ratio = statistics.median(ratios)
        return {
            "name": self.name,
            "ours": self.ours,
            "theirs": self.theirs,
            "unit": f"{self.unit}/s",
            "ours_speed": round(self.amount / statistics.median(self.ours_seconds)),
            "theirs_speed": round(self.amount / statistics.median(self.theirs_seconds)),
            "ratio": round(ratio, 2),
            "ratio_deciles": [round(deciles[0], 2), round(deciles[-1], 2)],
            "target": self.target,
            "target_met": ratio >= self.target,
            "rounds": len(ratios),
        }


def environment() -> dict[str, Any]:
    """Date, hardware and versions; nothing that names the machine or its user."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return {"date": today.isoformat(), **hardware(), "versions": versions()}
