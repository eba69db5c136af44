"""Objects that were found and detections of none, on one picture."""

from __future__ import annotations

import numpy as np
import pytest

from switchnorm.tasks.detection.average_precision import score
from switchnorm.tasks.detection.found import Found, Truth
from switchnorm.tasks.detection.mistakes import Mistakes, mistakes
from tests.tasks.detection.pictures import tally


def truth(boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None) -> Truth:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Truth(array, np.array(labels, np.int64), np.ones(len(array)), np.array(crowd or [False] * len(array), bool))


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Found:
    return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32))


A, B, FAR = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0], [60.0, 60.0, 70.0, 70.0]


def test_found_missed_and_wrong() -> None:
    there = truth([A, B], [1, 2])
    assert mistakes(there, found([A, B], [1, 2], [0.9, 0.8]), 0.5) == Mistakes(2, 0, 0)
    assert mistakes(there, found([A, B], [1, 1], [0.9, 0.8]), 0.5) == Mistakes(1, 1, 1), "of another class"
    assert mistakes(there, found([A, A], [1, 1], [0.9, 0.8]), 0.5) == Mistakes(1, 1, 1), "each object once"
    assert mistakes(there, found([A, B], [1, 2], [0.9, 0.4]), 0.5) == Mistakes(1, 1, 0), "below the score"
    assert mistakes(there, found([[0, 0, 10, 5.1], FAR], [1, 1], [0.5, 0.6]), 0.5) == Mistakes(1, 1, 1)
    assert mistakes(there, found([[0, 0, 10, 4.9]], [1], [0.5]), 0.5) == Mistakes(0, 2, 1), "less than half"


def test_on_a_crowd_nothing_is_wrong_and_it_is_never_missed() -> None:
    there = truth([A, [0, 0, 100, 100]], [1, 1], [False, True])
    assert mistakes(there, found([A, FAR, B], [1, 1, 1], [0.9, 0.8, 0.7]), 0.5) == Mistakes(1, 0, 0)
    assert mistakes(there, found([FAR], [2], [0.9]), 0.5) == Mistakes(0, 1, 1), "a crowd of another class"


def test_f1() -> None:
    assert mistakes(truth([], []), found([], [], []), 0.5).f1 == 1
    assert mistakes(truth([], []), found([A], [1], [0.9]), 0.5).f1 == 0
    assert Mistakes(3, 1, 2).f1 == pytest.approx(6 / 9)


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_cocos_evaluation(seed: int) -> None:
    """Recall times objects is how many are found, precision at the end how many detections are right."""
    draw = np.random.default_rng(seed)
    given = tally(draw, 0, classes=1, objects=12, detections=20, crowds=0.2)
    tables = score([given], 1).boxes
    expected = round(tables.recall[0, 0, 0, -1] * (~given.truth.crowd).sum())
    counted = mistakes(given.truth, given.found, 0.0)
    assert counted.right == expected
    assert counted.right + counted.missed == (~given.truth.crowd).sum()
    reached = np.flatnonzero(tables.precision[0, :, 0, 0, -1])
    assert counted.right / (counted.right + counted.wrong) <= tables.precision[0, reached[-1], 0, 0, -1] + 1e-12
