"""Rounds and ratios."""

from __future__ import annotations

import time

import pytest

from benchmarks.case import Pair
from benchmarks.measure import Effort, Ratio, interleave


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that slows down to a tenth in between changes nothing."""
    speeds = [1.0] * 6 + [10.0] * 5
    ratio = Ratio.over_rounds([2 * speed for speed in speeds], [4 * speed for speed in speeds])
    assert ratio == (0.5, 0.5, 0.5)


def test_median_and_deciles() -> None:
    ratio = Ratio.over_rounds([float(i) for i in range(11)], [10.0] * 11)
    assert ratio == pytest.approx((0.5, 0.1, 0.9))
    assert Ratio.over_rounds([3.0], [2.0]) == (1.5, 1.5, 1.5)


def test_cases_are_summed_up_by_their_geometric_mean() -> None:
    cases = [Ratio(value, 0.9 * value, 1.1 * value) for value in (0.5, 1.0, 2.0, 4.0)]
    assert Ratio.over_cases(cases) == pytest.approx((2**0.5, 0.5, 4.0))
    assert Ratio.over_cases(cases[:1]) is cases[0]


def test_ways_take_turns_and_warmups_are_not_counted() -> None:
    calls: list[str] = []
    seconds = interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, Effort(fewest=3, most=3, warmups=2)
    )
    assert calls == ["a", "a", "b", "b", *("a", "b") * 3]
    assert {name: len(found.clock) for name, found in seconds.items()} == {"a": 3, "b": 3}


def test_rounds_and_repeats_fill_the_time() -> None:
    """10 ms in each of 10 rounds, by a call of 10 ms or several of 2 ms: what is given is per call."""
    seconds = interleave(
        {"slow": lambda: time.sleep(0.01), "quick": lambda: time.sleep(0.002)}, Effort(0.2, 2, 20, sample=0.01)
    )
    slow, quick = seconds["slow"], seconds["quick"]
    assert 2 <= len(slow.clock) == len(quick.clock) <= 10
    assert min(slow.clock) >= 0.01
    assert 0.002 <= min(quick.clock) < 0.01
    assert sum(slow.cpu) < sum(slow.clock) / 2, "who sleeps does not work"


def test_a_target_is_met_by_the_number_that_is_printed() -> None:
    assert Pair("a", "b", at_most=1.0).met(1.004)
    assert Pair("a", "b", at_most=1.0).met(1.006) is False
    assert Pair("a", "b", at_most=1 / 3).met(0.33)
    assert Pair("a", "b", at_least=10).met(9.996)
    assert Pair("a", "b", at_least=10).met(9.9) is False
    assert Pair("a", "b").met(0.1) is None
