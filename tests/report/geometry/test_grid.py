"""Scores by geometry: the numbers against a hand computation, and the marks of what is missing."""

from __future__ import annotations

from pathlib import Path
from statistics import stdev

import pytest

from switchnorm.report import Absent, load_run
from switchnorm.report.common.groups import group_runs
from switchnorm.report.geometry.grid import Grid, grids
from switchnorm.report.geometry.grid_table import grid_table
from switchnorm.runs.geometries import Geometry
from tests.report.conftest import Make, known_data, record
from tests.report.geometry.conftest import FULL, PAIR, at, build


def shown(grid: Grid) -> dict[str, list[str]]:
    return {row[0].text: [cell.text for cell in row[1:]] for row in grid_table(grid).rows}


class TestNumbers:
    def test_rows_and_columns_come_as_in_the_papers(self, paths: list[Path]) -> None:
        grid = build(*paths)
        assert list(grid.rows) == ["BN", "GN", "SSN"]
        assert [column.title.replace("\u00a0", " ") for column in grid.columns] == ["(8, 32)", "(8, 2)", "(1, 16)"]

    def test_means_spreads_and_differences_by_hand(self, paths: list[Path]) -> None:
        grid = build(*paths)
        cell = grid.cells["SSN", PAIR]
        assert cell.mean == pytest.approx(0.703)
        assert cell.spread == pytest.approx(stdev((0.702, 0.704)))
        assert grid.difference("SSN", PAIR, "BN") == pytest.approx(0.703 - 0.520)
        assert grid.difference("SSN", PAIR, "GN") == pytest.approx(0.703 - 0.731)
        assert grid.best(FULL) == pytest.approx(0.772)

    def test_the_table(self, paths: list[Path]) -> None:
        assert shown(build(*paths)) == {
            "BN": ["77.2 ± 0.3", "52.0 ± 2.8", "76.6 ± 0.1"],
            "GN": ["74.5 ± 0.7", "73.1 ± 0.1", "–"],
            "SSN": ["76.2 ± 0.3", "70.3 ± 0.1", "–"],
            "GN vs BN": ["-2.7", "+21.1", "–"],
            "SSN vs BN": ["-1.0", "+18.3", "–"],
            "BN vs GN": ["+2.7", "-21.1", "–"],
            "SSN vs GN": ["+1.7", "-2.8", "–"],
        }

    def test_the_best_of_each_column_is_strong(self, paths: list[Path]) -> None:
        table = grid_table(build(*paths))
        strong = [[place for place, cell in enumerate(row) if cell.strong] for row in table.rows]
        assert strong == [[1, 3], [2], [], [], [], [], []]
        assert table.blocks == (3, 5)

    def test_as_good_as_shown_is_as_good(self, make_run: Make) -> None:
        finals = {"bn": 0.8001, "sn": 0.8002}
        runs = [make_run(norm, final=final, folder=f"{norm}{geometry}", settings=at(geometry))
                for norm, final in finals.items() for geometry in (FULL, PAIR)]  # fmt: skip
        assert [row[1].strong for row in grid_table(build(*runs)).rows] == [True, True, False]

    def test_one_geometry_is_no_table(self, runs: list[Path]) -> None:
        assert grids(group_runs(map(load_run, runs))) == []

    def test_one_network_on_one_data_set_each(self, make_run: Make) -> None:
        runs = [make_run("bn", folder=f"{data}{geometry}", settings=at(geometry, **{"data.name": data}))
                for data in ("digits", "cifar10") for geometry in (FULL, PAIR)]  # fmt: skip
        runs.append(make_run("bn", folder="alone", settings=at(FULL, **{"model.name": "other"})))
        found = grids(group_runs(map(load_run, runs)))
        assert [(grid.data, grid.network) for grid in found] == [
            ("digits", "cifar_resnet20"), ("cifar10", "cifar_resnet20"),
        ]  # fmt: skip

    def test_each_test_data_has_a_table(self, make_run: Make) -> None:
        runs = [
            known_data(make_run("bn", folder=f"{root}{geometry}", settings=at(geometry, data=photos)), root)
            for root, photos in (("a", {"name": "folder", "root": "a"}), ("b", {"name": "folder", "root": "b"}))
            for geometry in (FULL, PAIR)
        ]
        assert [grid.data for grid in grids(group_runs(map(load_run, runs)))] == ["folder, root a", "folder, root b"]

    def test_what_else_differs_is_said(self, make_run: Make) -> None:
        runs = [make_run(norm, folder=f"{norm}{g}", settings=at(g, **{"train.epochs": epochs}))
                for norm, epochs in (("bn", 6), ("sn", 90)) for g in (FULL, PAIR)]  # fmt: skip
        said = [note.replace("\u00a0", " ") for note in grid_table(build(*runs)).notes]
        assert "Other settings differ: epochs 6 (BN (8, 32); BN (8, 2)), 90 (SN (8, 32); SN (8, 2))." in said

    def test_a_seed_counts_once(self, paths: list[Path], make_run: Make) -> None:
        again = make_run("ssn", 0, final=0.9, folder="again", settings=at(PAIR))
        grid = build(*paths, record(again, created="2026-02-01T12:00:00"))
        assert shown(grid)["SSN"][1] == "70.3 ± 0.1"
        assert any("seed 0 was trained more than once" in note for note in grid_table(grid).notes)

    def test_two_groups_in_a_cell_get_rows_of_their_own(self, make_run: Make) -> None:
        long = make_run("bn", folder="long", settings=at(PAIR, **{"train.epochs": 90}))
        runs = [make_run(norm, folder=f"{norm}{g}", settings=at(g)) for norm in ("bn", "sn") for g in (FULL, PAIR)]
        assert list(build(*runs, long).rows) == ["BN, epochs 6", "BN, epochs 90", "SN"]

    def test_samples_that_do_not_divide_the_batch_are_no_geometry(self, make_run: Make) -> None:
        odd = make_run("bn", folder="odd", settings={"train.batch_size": 33, "train.samples_per_gpu": 2})
        assert grids(group_runs(map(load_run, (odd, make_run("bn"))))) == []


class TestMissing:
    def test_what_failed_says_why(self, paths: list[Path]) -> None:
        absent = (Absent("sn", PAIR, 0, "no memory."), Absent("sn", FULL, 0), Absent("bn", PAIR, 2, "no luck"))
        grid = build(*paths, absent=absent)
        assert shown(grid)["SN"] == ["…", "failed", "–"]
        assert shown(grid)["BN"][1] == "52.0 ± 2.8 ‡"
        said = [note.replace("\u00a0", " ") for note in grid_table(grid).notes]
        assert "SN (8, 2), seed 0 failed: no memory." in said
        assert "BN (8, 2), seed 2 failed: no luck." in said
        assert "1 training has not finished." in said

    def test_all_that_failed_is_a_table_too(self) -> None:
        (grid,) = grids([], [Absent("bn", FULL, 0, "a"), Absent("bn", PAIR, 0, "b")])
        assert shown(grid) == {"BN": ["failed", "failed"]}

    def test_many_reasons_are_counted(self) -> None:
        (grid,) = grids([], [Absent("bn", geometry, seed, "a") for geometry in (FULL, PAIR) for seed in range(9)])
        assert grid_table(grid).notes[-1] == "10 more trainings failed."

    def test_a_run_that_diverged_does_not_count(self, paths: list[Path]) -> None:
        file = paths[0] / "metrics.csv"
        header, *rows = file.read_text().splitlines()
        column = header.split(",").index("train_loss")
        for place in (4, 5):
            values = rows[place].split(",")
            rows[place] = ",".join([*values[:column], "nan", *values[column + 1 :]])
        file.write_text("\n".join([header, *rows]) + "\n")
        assert load_run(paths[0]).diverged == 5
        grid = build(*paths)
        assert shown(grid)["SSN"][0] == "76.4 ‡"
        assert any("diverged in epoch 5" in note for note in grid_table(grid).notes)

    def test_a_run_that_goes_on_does_not_count(self, paths: list[Path]) -> None:
        (paths[0] / "run.json").write_text('{"status": "running"}')
        assert shown(build(*paths))["SSN"][0] == "76.4 ‡"

    def test_reduced_statistics_are_marked(self, make_run: Make) -> None:
        single = at(Geometry(8, 1), **{"model.options": {"statistics": ["instance", "layer"]}})
        runs = [make_run("sn", folder="a", settings=at(PAIR)), make_run("sn", folder="b", settings=single)]
        grid = build(*runs)
        assert shown(grid)["SN"] == ["79.0", "79.0 †"]
        assert "† instance and layer statistics only, no batch statistics." in grid_table(grid).notes


def test_labelled_runs_have_rows_of_their_own(make_run: Make) -> None:
    paths = [
        make_run("bn", 1, folder=f"{label}-{samples}", settings={
            "label": label, "train.samples_per_gpu": samples, "train.batch_size": 8 * samples,
            "train.frozen_statistics": label is not None})
        for label in (None, "Frozen BN") for samples in (4, 2)
    ]  # fmt: skip
    (grid,) = grids(group_runs(map(load_run, paths)))
    assert list(grid.rows) == ["BN", "Frozen BN"]
    assert grid.baselines == ["BN"]
