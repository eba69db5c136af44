"""The outcome of groups of runs, and the table of them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from statistics import stdev

import pytest
from rich.console import Console

from switchnorm.report import print_results, write, write_results
from switchnorm.report.common.groups import group_runs
from switchnorm.report.results.result import Result, results
from switchnorm.report.results.results_table import results_table
from switchnorm.runs.durations import duration
from switchnorm.runs.run import load_run
from tests.report.conftest import EPOCHS, Make, known_data, record


def by_label(*paths: Path) -> dict[str, Result]:
    return {row.label: row for row in results(group_runs(map(load_run, paths)))}


def photos(root: str, **options: object) -> dict[str, object]:
    return {"data": {"name": "folder", "root": root, **options}}


def notes(*paths: Path) -> list[str]:
    return list(results_table(list(by_label(*paths).values())).notes)


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


class TestTestData:
    def test_other_test_data_is_never_compared(self, make_run: Make) -> None:
        bn = known_data(make_run("bn", 1, settings=photos("cats")), "a")
        sn = known_data(make_run("sn", 1, settings=photos("planes")), "b")
        rows = by_label(bn, sn)
        assert [row.difference for row in rows.values()] == [None, None]
        assert [row.data for row in rows.values()] == ["folder, root cats", "folder, root planes"]
        table = results_table(list(rows.values()))
        assert "vs BN" not in table.columns
        assert [row[0].strong for row in table.rows] == [True, True], "each is the best on its data"
        assert table.notes == (), "what differs between data that is not compared says nothing"

    def test_data_that_changed_where_it_lies_is_other_data(self, make_run: Make) -> None:
        paths = [known_data(make_run(norm, 1, settings=photos("x")), mark) for norm, mark in (("bn", "a"), ("sn", "b"))]
        rows = by_label(*paths)
        assert rows["SN"].difference is None
        assert all(re.fullmatch(r"folder, digest [0-9a-f]{8}", row.data) for row in rows.values())

    def test_other_classes_are_other_data(self, make_run: Make) -> None:
        bn, sn = (known_data(make_run(norm, 1, settings=photos("x")), "a") for norm in ("bn", "sn"))
        assert by_label(bn, sn)["SN"].difference is not None
        assert by_label(bn, record(sn, classes=["animal"]))["SN"].difference is None

    def test_data_that_moved_is_the_same(self, make_run: Make) -> None:
        bn = known_data(make_run("bn", 1, settings=photos("cats")), "a")
        sn = known_data(make_run("sn", 1, settings=photos("/elsewhere")), "a")
        rows = by_label(bn, sn)
        assert rows["SN"].difference == pytest.approx(0.1)
        assert {row.data for row in rows.values()} == {"folder"}
        assert notes(bn, sn) == ["Other settings differ: root cats (BN), /elsewhere (SN)."]

    @pytest.mark.parametrize("options", [{"val_folder": "hard"}, {"val_list": "b.txt"}, {"root": "y"}])
    def test_without_a_record_the_options_decide(self, make_run: Make, options: dict[str, str]) -> None:
        bn = make_run("bn", 1, settings=photos("x"))
        same = make_run("sn", 1, settings=photos("x", train_folder="more"))
        assert by_label(bn, same)["SN"].difference is not None
        (key, value), *_ = options.items()
        other = make_run("sn", 1, folder="other", settings=photos(**{"root": "x", **options}))
        rows = by_label(bn, other)
        assert rows["SN"].difference is None
        assert rows["SN"].data == f"folder, {key.replace('_', ' ')} {value}"

    def test_a_run_without_a_record_was_tested_on_what_lay_in_the_same_place(self, make_run: Make) -> None:
        old = make_run("bn", 1, settings=photos("x"))
        new = known_data(make_run("sn", 1, settings=photos("x")), "a")
        assert by_label(old, new)["SN"].difference == pytest.approx(0.1)
        changed = known_data(make_run("ssn", 1, settings=photos("x")), "b")
        assert by_label(old, new, changed)["SN"].difference is None, "nobody knows which of the two it was"

    def test_other_training_data_is_said(self, make_run: Make) -> None:
        bn = known_data(make_run("bn", 1, settings=photos("x")), "a")
        sn = known_data(make_run("sn", 1, settings=photos("x")), "a", trained_on="u")
        said = "Other settings differ: training data 48 samples (tttttt) (BN), 48 samples (uuuuuu) (SN)."
        assert notes(bn, sn) == [said]
        assert notes(bn, make_run("gn", 1, final=0.7, settings=photos("x"))) == [], "one says nothing of it"


class TestOtherSettings:
    def test_what_no_column_tells_is_said(self, make_run: Make) -> None:
        bn = make_run("bn", 1)
        sn = make_run("sn", 1, settings={"optimizer.lr": 0.5, "train.device": "cuda", "train.epochs": 9})
        assert notes(bn, sn) == ["Other settings differ: lr 0.1 (BN), 0.5 (SN)."]
        others = [make_run(norm, 1, final=0.7) for norm in ("gn", "ln")]
        assert notes(bn, sn, *others) == ["Other settings differ: lr 0.1 (the others), 0.5 (SN)."]
        more = [make_run(norm, 1, folder=norm, final=0.7, settings={"optimizer.lr": 0.5}) for norm in ("in", "ssn")]
        assert notes(bn, sn, *others, *more) == ["Other settings differ: lr 0.1 (BN; GN; LN), 0.5 (SN; IN; SSN)."]

    def test_what_names_tell_is_not_said_again(self, make_run: Make) -> None:
        assert notes(make_run("sn"), make_run("sn", folder="b", settings={"optimizer.lr": 0.5})) == []

    def test_many_are_counted(self, make_run: Make) -> None:
        many = {f"optimizer.key{place}": place for place in range(11)}
        (said,) = notes(make_run("bn"), make_run("sn", settings=many))
        assert said.startswith("Other settings differ: key0 as built (BN), 0 (SN); ")
        assert said.endswith("; and 3 more.")

    def test_each_data_has_its_own(self, make_run: Make) -> None:
        far = {"data.name": "cifar10", "optimizer.lr": 0.5}
        paths = [make_run("bn"), make_run("sn"), make_run("gn", final=0.7, settings=far)]
        assert notes(*paths) == []
        paths.append(make_run("ssn", settings={"data.name": "cifar10"}))
        assert notes(*paths) == ["On cifar10: Other settings differ: lr 0.5 (GN), 0.1 (SSN)."]


class TestWhatCounts:
    def test_a_run_that_diverged_does_not(self, make_run: Make) -> None:
        bad = record(make_run("gn", 1, final=0.1), status="diverged", diverged={"epoch": 4}, seconds=9000)
        good = make_run("gn", 0, final=0.9)
        row = by_label(good, bad)["GN"]
        assert (row.value, row.spread, row.best, row.seconds) == (pytest.approx(0.9), None, pytest.approx(0.91), 40)
        assert (cells(row)["Accuracy %"][0], cells(row)["Seeds"][0]) == ("90.00", "1 of 2")
        assert notes(good, bad) == ["GN, seed 1 failed: diverged in epoch 4: the loss is no number."]

    def test_nor_does_one_that_goes_on(self, make_run: Make) -> None:
        going = record(make_run("gn", 1, final=0.2, epochs=1), status="running")
        good = make_run("gn", 0, final=0.9)
        row = by_label(good, going)["GN"]
        assert (row.value, row.spread, row.epochs) == (pytest.approx(0.9), None, (EPOCHS, EPOCHS))
        assert notes(good, going) == ["1 training has not finished."]
        alone = by_label(going)["GN"]
        assert (alone.value, alone.epochs, cells(alone)["Seeds"][0]) == (None, (1, 1), "0 of 1")

    def test_the_first_of_a_group_is_one_that_counts(self, make_run: Make) -> None:
        bad = record(make_run("sn", 0), status="diverged", diverged={"epoch": 4})
        (group,) = group_runs(map(load_run, (bad, make_run("sn", 1))))
        assert [run.seed for run in group.runs] == [1, 0]

    def test_terminal_page_and_files_say_what_is_left_out(self, make_run: Make, tmp_path: Path) -> None:
        bad = record(make_run("gn", 1, final=0.1), status="diverged", diverged={"epoch": 4})
        paths = [make_run("gn", 0, final=0.9), bad]
        said = "GN, seed 1 failed: diverged in epoch 4: the loss is no number."
        file = io.StringIO()
        print_results(paths, Console(file=file, width=200))
        write_results(paths, tmp_path)
        assert said in file.getvalue()
        assert said in write(paths, tmp_path / "report.html").read_text()
        assert said in (tmp_path / "table.md").read_text()
        (table,) = json.loads((tmp_path / "table.json").read_text())["tables"]
        assert table["notes"] == [said]
        (row,) = table["rows"]
        assert (row["mean"], row["spread"]) == (pytest.approx(0.9), None)
        assert [seed["failed"] for seed in row["seeds"]] == [None, "diverged in epoch 4: the loss is no number"]

    def test_a_seed_counts_once(self, make_run: Make) -> None:
        first = make_run("sn", 0, folder="a0", final=0.8)
        again = record(make_run("sn", 0, folder="a0again", final=0.9), created="2026-02-01T12:00:00")
        row = by_label(again, first)["SN"]
        assert (row.seeds, row.value, row.spread) == (1, pytest.approx(0.8), None)
        assert notes(again, first) == [f"SN, seed 0 was trained more than once: {first} counts, and {again} does not."]
        other = by_label(again, first, make_run("sn", 1, final=0.6))["SN"]
        assert (other.seeds, other.value) == (2, pytest.approx(0.7))

    def test_a_seed_that_diverged_is_not_made_good_by_another_try(self, make_run: Make) -> None:
        """Or what counts would depend on how it came out."""
        bad = record(make_run("sn", 0), status="diverged", diverged={"epoch": 4})
        again = record(make_run("sn", 0, folder="again"), created="2026-02-01T12:00:00")
        assert by_label(bad, again)["SN"].value is None
        assert by_label(record(bad, status="running"), again)["SN"].value is not None, "one that ended says more"

    def test_seeds_that_nobody_knows_are_each_their_own(self, make_run: Make) -> None:
        paths = [record(make_run("sn", 0, folder=name, settings={"seed": None}), name=name) for name in ("a", "b")]
        assert by_label(*paths)["SN"].seeds == 2
