"""Whole training steps at a small size: every way trains as the reference does, and a wrong one is found."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import step
from benchmarks.case import Case
from benchmarks.runner import run_case


def case(*arguments: str) -> Case:
    parser = argparse.ArgumentParser()
    step.add_arguments(parser)
    chosen = ("--device", "cpu", "--recipes", "digits/resnet9", "--norms", "bn", "--seconds", "0")
    (found,) = step.cases(parser.parse_args([*chosen, *arguments]))
    return found


def test_every_way_takes_the_reference_s_steps() -> None:
    outcome = run_case(case())
    assert outcome.failures == {}
    assert {row["way"] for row in outcome.rows} == {"bn", "bn, channels last"}
    assert all(row["images_per_second"] > 0 for row in outcome.rows)


def test_other_losses_are_no_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    right = step.reference_losses
    monkeypatch.setattr(step, "reference_losses", lambda *given: right(*given) + 0.1)
    outcome = run_case(case())
    assert outcome.failures.keys() == {"bn", "bn, channels last"}
    assert outcome.rows == []
