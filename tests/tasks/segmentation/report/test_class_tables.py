"""Classes and mistakes in tables."""

from __future__ import annotations

import pytest

from switchnorm.tasks.segmentation.files import ClassScore, Confusion
from switchnorm.tasks.segmentation.report.class_tables import (
    class_table,
    comparison_table,
    mistake_table,
    mistakes,
)

ROAD, SKY, POLE = ClassScore("road", 0.9, 0.95, 800), ClassScore("sky", 0.5, 1.0, 199), ClassScore("pole", 0.0, 0.0, 1)
NEVER = ClassScore("bus", None, None, 0)


def test_a_class_with_its_colour_bar_and_share() -> None:
    table = class_table([ROAD, POLE, NEVER], {"road": "#112233"}, "all", 1_000_000)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["road", "90.00", "95.00", "0.08"], ["pole", "0.00", "0.00", "< 0.01"], ["bus", "–", "–", "0.00"],
    ]  # fmt: skip
    assert [(row[0].colour, row[1].share) for row in table.rows] == [("#112233", 0.9), (None, 0.0), (None, None)]


def test_runs_side_by_side_with_the_best_of_each_class_strong() -> None:
    other = (ClassScore("road", 0.1, 0.1, 800), ClassScore("sky", 0.6, 1.0, 199), ClassScore("pole", None, None, 1))
    table = comparison_table({"SN": (ROAD, SKY, POLE), "BN": other}, ["road", "sky", "pole"], {}, "all")
    assert table.columns == ("Class", "Pixels %", "SN IoU %", "BN IoU %")
    assert [[cell.text for cell in row[1:]] for row in table.rows] == [
        ["80.00", "90.00", "10.00"], ["19.90", "50.00", "60.00"], ["0.10", "0.00", "–"],
    ]  # fmt: skip
    assert [[cell.strong for cell in row[2:]] for row in table.rows] == [
        [True, False],
        [False, True],
        [False, False],  # nothing found is no best
    ]


def test_mistakes_by_their_pixels() -> None:
    confusion = Confusion(("a", "b", "c"), ((90, 10, 0), (5, 0, 15), (0, 0, 0)))
    third, sixth = pytest.approx(1 / 3), pytest.approx(1 / 6)
    expected = [("b", "c", 15, 0.75, 0.5), ("a", "b", 10, 0.1, third), ("b", "a", 5, 0.25, sixth)]
    assert mistakes(confusion) == expected
    table = mistake_table(confusion, {"c": "#000000"}, "all")
    assert [cell.text for cell in table.rows[0]] == ["b", "c", "75.0", "50.0"]
    assert table.rows[0][1].colour == "#000000"
    assert mistakes(Confusion(("a",), ((3,),))) == []
