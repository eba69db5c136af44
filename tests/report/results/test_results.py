"""The outcome of groups of runs, and the table of them."""

from __future__ import annotations

from pathlib import Path
from statistics import stdev

import pytest

from switchnorm.report.common.groups import group_runs
from switchnorm.report.results.result import Result, results
from switchnorm.report.results.results_table import results_table
from switchnorm.runs.durations import duration
from switchnorm.runs.run import load_run
from tests.report.conftest import EPOCHS, Make


def by_label(*paths: Path) -> dict[str, Result]:
    return {row.label: row for row in results(group_runs(map(load_run, paths)))}


def cells(row: Result) -> dict[str, tuple[str, bool]]:
    table = results_table([row])
    return {title: (cell.text, cell.strong) for title, cell in zip(table.columns, table.rows[0], strict=True)}


def test_means_spread_and_differences(runs: list[Path]) -> None:
    row = by_label(*runs)["SN"]
    assert (row.seeds, row.epochs, row.samples_per_gpu) == (3, (EPOCHS, EPOCHS), 2)
    assert row.value == pytest.approx(0.80)
    assert row.spread == pytest.approx(stdev([0.79, 0.80, 0.81]))
    assert row.best == pytest.approx(0.81)
    assert row.difference == pytest.approx(0.10)
    assert row.seconds == pytest.approx(41)


def test_the_table_shows_them_and_the_best_is_strong(runs: list[Path]) -> None:
    table = results_table(list(by_label(*runs).values()))
    shown = [[cell.text for cell in row] for row in table.rows]
    assert shown[0] == ["BN", "70.00 ± 1.00", "", "71.00", "41 s", "2", "cifar_resnet20", "digits", "3", "6"]
    assert shown[2] == ["SN", "80.00 ± 1.00", "+10.00", "81.00", "41 s", "2", "cifar_resnet20", "digits", "3", "6"]
    assert [[cell.text for cell in row if cell.strong] for row in table.rows] == [
        [],
        [],
        [],
        ["SSN", "81.00 ± 1.00"],
    ]


def test_the_best_of_each_data_set_is_strong(make_run: Make) -> None:
    other = {"data.name": "cifar10"}
    paths = [make_run("bn"), make_run("sn"), make_run("bn", folder="c", settings=other)]
    table = results_table(list(by_label(*paths).values()))
    assert [row[0].text for row in table.rows if row[0].strong] == ["SN", "BN, cifar10"]


def test_one_seed_has_no_spread(make_run: Make) -> None:
    row = by_label(make_run("sn", 1))["SN"]
    assert row.spread is None
    assert cells(row)["Accuracy %"] == ("80.00", True)


def test_no_bn_no_column_for_it(make_run: Make) -> None:
    assert "vs BN" not in cells(by_label(make_run("sn"))["SN"])


def test_bn_is_compared_with_only_in_the_same_setting(make_run: Make) -> None:
    rows = by_label(
        make_run("bn", 1, folder="a"),
        make_run("bn", 1, folder="b", final=0.9, settings={"train.samples_per_gpu": 32}),
        make_run("sn", 1),
        make_run("ssn", 1, settings={"data.name": "cifar10"}),
    )
    assert rows["SN"].baseline is not None
    assert rows["SN"].baseline.label == "BN, samples per GPU 2"
    assert rows["SN"].difference == pytest.approx(0.1)
    assert rows["SSN"].difference is None


def test_the_closest_of_several_bn_is_the_baseline(make_run: Make) -> None:
    decay = {"optimizer.lr": 0.5}
    rows = by_label(
        make_run("bn", folder="a"), make_run("bn", folder="b", settings=decay), make_run("sn", settings=decay)
    )
    assert rows["SN"].baseline is not None
    assert rows["SN"].baseline.label == "BN, lr 0.5"


def test_nothing_measured_is_a_dash(make_run: Make) -> None:
    path = make_run("sn")
    (path / "metrics.csv").write_text("epoch,train_loss\n0,1\n")
    (path / "run.json").write_text("{}")
    row = by_label(path)["SN"]
    assert (row.value, row.seconds, row.difference) == (None, None, None)
    assert cells(row)["Accuracy %"] == ("–", False)


def test_seeds_of_different_length_show_both(make_run: Make) -> None:
    row = by_label(make_run("sn", 0), make_run("sn", 1, epochs=4))["SN"]
    assert cells(row)["Epochs"] == ("4 to 6", False)


def test_a_time_is_shown_in_a_fitting_unit() -> None:
    assert [duration(time) for time in (41.2, 300, 9000, None)] == ["41 s", "5.0 min", "2.5 h", "–"]
