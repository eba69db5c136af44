"""Running cases: check, measure, time, compare."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.agreement import MismatchError
from benchmarks.case import CPU_TIME, TIME, Case, Pair
from benchmarks.measure import Ratio, Seconds, interleave

#: Facts over whose values ratios are summed up; by all others they are kept apart.
SUMMED_UP = ("shape",)


@dataclass(frozen=True)
class Outcome:
    """What a case gave.

    Attributes:
        case: the case.
        rows: a record for each way that was found right.
        ratios: of each pair of such ways.
        failures: why the other ways were not timed, by name.
    """

    case: Case
    rows: list[dict[str, Any]]
    ratios: dict[Pair, Ratio]
    failures: dict[str, str]


def run_case(case: Case) -> Outcome:
    """Check every way; time those that are right, in the same rounds."""
    ways, failures = dict(case.ways()), {}
    for name, way in list(ways.items()):
        try:
            way.check()
        except MismatchError as mismatch:
            failures[name] = str(mismatch)
            del ways[name]
    facts = {name: way.facts() for name, way in ways.items()}
    seconds = interleave({name: way.run for name, way in ways.items()}, case.effort, case.device)
    quantities = {
        name: {
            TIME: seconds[name].clock,
            CPU_TIME: seconds[name].cpu,
            **{fact: [value] for fact, value in facts[name].items()},
        }
        for name in ways
    }
    ratios = {}
    for pair in case.pairs:
        if pair.of in ways and pair.over in ways:
            below = [pair.scale * value for value in quantities[pair.over][pair.quantity]]
            ratios[pair] = Ratio.over_rounds(quantities[pair.of][pair.quantity], below)
    rows = [_row(case, name, seconds[name], facts[name]) | {"ratios": _times(name, ratios)} for name in ways]
    return Outcome(case, rows, ratios, failures)


def _row(case: Case, name: str, seconds: Seconds, facts: dict[str, float]) -> dict[str, Any]:
    middle, worked = (statistics.median(each) for each in seconds)
    speed = {f"{case.unit}_per_second": round(case.amount / middle, 1)} if case.unit else {}
    milliseconds = {"ms": float(f"{1e3 * middle:.4g}"), "cpu_ms": float(f"{1e3 * worked:.4g}")}
    return {**case.facts, "way": name, **milliseconds, **speed, **facts, "rounds": len(seconds.clock)}


def _times(name: str, ratios: dict[Pair, Ratio]) -> dict[str, list[float]]:
    """A way's time over others': median, first and last decile by name."""
    return {
        pair.label or pair.over: [round(value, 3) for value in ratio]
        for pair, ratio in ratios.items()
        if pair.of == name and pair.quantity == TIME
    }


def summed_up(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A record for each pair and setting: the ratio over all its shapes, and the target."""
    grouped: defaultdict[tuple[Any, ...], list[tuple[Pair, Ratio]]] = defaultdict(list)
    for outcome in outcomes:
        setting = tuple((name, value) for name, value in outcome.case.facts.items() if name not in SUMMED_UP)
        for pair, ratio in outcome.ratios.items():
            grouped[(setting, pair.of, pair.label or pair.over, pair.quantity)].append((pair, ratio))
    return [
        {**dict(setting), "of": of, "over": over, "quantity": quantity, **_summary(*zip(*found, strict=True))}
        for (setting, of, over, quantity), found in grouped.items()
    ]


def _summary(pairs: tuple[Pair, ...], ratios: tuple[Ratio, ...]) -> dict[str, Any]:
    ratio, pair = Ratio.over_cases(ratios), pairs[0]
    bounds = {"at_most": pair.at_most, "at_least": pair.at_least}
    summary: dict[str, Any] = {
        "ratio": round(ratio.value, 3),
        "low": round(ratio.low, 3),
        "high": round(ratio.high, 3),
        "cases": len(ratios),
    }
    summary |= {name: bound for name, bound in bounds.items() if bound is not None}
    if pair.met(ratio.value) is not None:
        summary["met"] = pair.met(ratio.value)
    return summary | ({"headline": True} if pair.headline else {})
