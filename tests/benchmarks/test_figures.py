"""The figures of docs/ are what the records in docs/results give."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmarks.figures import FIGURES, chart, draw
from benchmarks.figures import Line as Of
from tests.pages import ROOT

DRAWN = draw(ROOT / "docs/results")


@pytest.mark.parametrize("name", DRAWN)
def test_the_file_is_that_of_the_records(name: str) -> None:
    assert (ROOT / FIGURES / f"{name}.svg").read_text(encoding="utf-8") == DRAWN[name]


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in (ROOT / FIGURES).iterdir()} == DRAWN.keys()


def test_points_are_where_their_numbers_are() -> None:
    drawn = chart("title", "below", [Of("a & b", "#123456", [(1, 0.0), (10, 50.0), (100, 100.0)])])
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    (left, low), middle, (right, high) = places
    assert middle == ((left + right) / 2, (low + high) / 2)
    assert left < right
    assert high < low
    assert [each.text for each in ElementTree.fromstring(drawn).iter() if each.text == "a & b"]
