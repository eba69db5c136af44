"""What layers chose, in a table and in words."""

from __future__ import annotations

from switchnorm.report.importance.importance_table import importance_table
from switchnorm.report.importance.mixture import mixture, state
from switchnorm.runs.run import load_run
from tests.report.conftest import Make
from tests.report.importance.records import FLAT, FROZEN, HALF, HARD, MIXED


def test_a_row_per_layer_the_largest_of_each_moment_strong() -> None:
    table = importance_table([MIXED, HARD])
    assert table.columns == (
        "Layer", "mean instance", "mean layer", "mean batch",
        "variance instance", "variance layer", "variance batch", "State",
    )  # fmt: skip
    assert [cell.text for cell in table.rows[0]] == [
        "conv1.norm",
        "20 %",
        "30 %",
        "50 %",
        "60 %",
        "30 %",
        "10 %",
        "",
    ]
    assert [cell.text for cell in table.rows[0] if cell.strong] == ["50 %", "60 %"]
    assert [cell.share for cell in table.rows[0][1:-1]] == [*MIXED.mean, *MIXED.var]


def test_a_statistic_that_a_layer_lacks_is_blank() -> None:
    row = importance_table([MIXED, FLAT]).rows[1]
    assert [cell.text for cell in row] == ["head.norm", "", "40 %", "60 %", "", "70 %", "30 %", ""]


def test_how_settled_a_layer_is() -> None:
    assert [state(layer) for layer in (MIXED, HARD, HALF, FROZEN)] == ["", "one-hot", "mean one-hot", "frozen"]


def test_the_mixture_in_words(make_run: Make) -> None:
    said = mixture(load_run(make_run("ssn")).choices).replace("\u00a0", " ")
    assert said.startswith("On average over the layers, the mean relies on ")
    assert "of 9 layers chose a single statistic" in said
