"""Which classes tables show, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.class_lists import absent, best_first, ends
from switchnorm.report.common.table import Cell, Table

SN = {"pole": 0.0, "sky": 0.5, "bus": None, "road": 0.9}


def test_the_best_class_comes_first_and_those_without_a_score_apart() -> None:
    assert best_first([SN]) == (["road", "sky", "pole"], ["bus"])
    assert best_first([SN, {**SN, "road": 0.1, "sky": 0.6}])[0] == ["sky", "road", "pole"]


def build(names: Sequence[str], which: str) -> Table:
    return Table(which, ("Class",), tuple((Cell(name),) for name in names))


def test_few_classes_are_one_table_and_of_many_the_ends_are_shown() -> None:
    names = [f"class {place}" for place in range(31)]
    assert ends(names[:30], build).count("<table") == 1
    shown = ends(names, build)
    assert shown.count("<table") == 3
    assert shown.index("class 9<") < shown.index("class 21<") < shown.index("All 31 classes")


def test_classes_that_are_nowhere_are_named_and_counted() -> None:
    assert absent([], "Nowhere") == ""
    assert "Nowhere: bus, tram." in absent(["bus", "tram"], "Nowhere")
    assert "class 23 and 6 more." in absent([f"class {place}" for place in range(30)], "Nowhere")
