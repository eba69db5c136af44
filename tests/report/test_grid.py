"""Accuracy by geometry: its numbers against a hand computation, its marks, its files, its figure and its section."""

from __future__ import annotations

import io
import json
from pathlib import Path
from statistics import stdev

import pytest
from rich.console import Console
from switchnorm.report.folds import fold
from switchnorm.report.grid import Grid, grids
from switchnorm.report.grid_figure import by_samples
from switchnorm.report.grid_table import grid_table
from switchnorm.report.groups import group_runs

from switchnorm.report import Absent, load_run, print_grids, print_results, write, write_tables
from switchnorm.runs.geometries import Geometry
from tests.report.conftest import Make

FULL, PAIR, ONE = Geometry(8, 32), Geometry(8, 2), Geometry(1, 16)
# Accuracies of seeds 0 and 1, by norm and geometry.
ACCURACY = {
    ("ssn", FULL): (0.760, 0.764), ("ssn", PAIR): (0.702, 0.704),
    ("bn", FULL): (0.770, 0.774), ("bn", PAIR): (0.500, 0.540), ("bn", ONE): (0.765, 0.767),
    ("gn", FULL): (0.740, 0.750), ("gn", PAIR): (0.730, 0.732),
}  # fmt: skip


def at(geometry: Geometry, **others: object) -> dict[str, object]:
    return {"train.batch_size": geometry.batch, "train.samples_per_gpu": geometry.samples, **others}


def build(*paths: Path, absent: tuple[Absent, ...] = ()) -> Grid:
    (found,) = grids(group_runs([load_run(path) for path in paths]), absent)
    return found


@pytest.fixture
def paths(make_run: Make) -> list[Path]:
    return [
        make_run(norm, seed, final=accuracy, folder=f"{norm}-{geometry}-{seed}", settings=at(geometry))
        for (norm, geometry), accuracies in ACCURACY.items()
        for seed, accuracy in enumerate(accuracies)
    ]


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
        assert load_run(paths[0]).diverged == 4
        grid = build(*paths)
        assert shown(grid)["SSN"][0] == "76.4 ‡"
        assert any("diverged in epoch 4" in note for note in grid_table(grid).notes)

    def test_a_run_that_goes_on_does_not_count(self, paths: list[Path]) -> None:
        (paths[0] / "run.json").write_text('{"status": "running"}')
        assert shown(build(*paths))["SSN"][0] == "76.4 ‡"

    def test_reduced_statistics_are_marked(self, make_run: Make) -> None:
        single = at(Geometry(8, 1), **{"model.options": {"statistics": ["instance", "layer"]}})
        runs = [make_run("sn", folder="a", settings=at(PAIR)), make_run("sn", folder="b", settings=single)]
        grid = build(*runs)
        assert shown(grid)["SN"] == ["79.0", "79.0 †"]
        assert "† instance and layer statistics only, no batch statistics." in grid_table(grid).notes


class TestFiles:
    def test_json_has_every_number_and_its_origin(self, paths: list[Path], tmp_path: Path) -> None:
        absent = [Absent("sn", PAIR, 3, "no memory")]
        write_tables(paths, tmp_path, absent=absent, facts={"recipe": "mine", "seconds": 12.5})
        table = json.loads((tmp_path / "table.json").read_text())
        assert (table["recipe"], table["seconds"], table["training_seconds"]) == ("mine", 12.5, 7 * 81)
        assert (table["versions"]["torch"], table["hardware"]["cores"]) == ("2.9.0", 2)
        (grid,) = table["tables"]
        cells = {(cell["norm"], cell["gpus"], cell["samples"]): cell for cell in grid["cells"]}
        cell = cells["ssn", 8, 2]
        assert cell["mean"] == pytest.approx(0.703)
        assert cell["minus_bn"] == pytest.approx(0.183)
        assert cell["minus_gn"] == pytest.approx(-0.028)
        assert [seed["accuracy"] for seed in cell["seeds"]] == pytest.approx([0.702, 0.704])
        assert cells["sn", 8, 2]["seeds"] == [{"seed": 3, "accuracy": None, "seconds": None, "failed": "no memory"}]
        assert [key for key, each in cells.items() if each["best_of_column"]] == [
            ("bn", 8, 32), ("bn", 1, 16), ("gn", 8, 2),
        ]  # fmt: skip

    def test_markdown_has_the_same_table(self, paths: list[Path], tmp_path: Path) -> None:
        write_tables(paths, tmp_path, facts={"command": "switchnorm study geometry"})
        text = (tmp_path / "table.md").read_text().replace("\u00a0", " ")
        assert "| (GPUs, samples) | (8, 32) | (8, 2) | (1, 16) |" in text
        assert "| BN | **77.2 ± 0.3** | 52.0 ± 2.8 | **76.6 ± 0.1** |" in text
        assert "- command: `switchnorm study geometry`" in text
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["table.json", "table.md"]


class TestTerminal:
    def printed(self, terminal: bool, *paths: Path, width: int = 120) -> str:
        file = io.StringIO()
        print_grids(paths, console=Console(file=file, force_terminal=terminal, width=width, legacy_windows=False))
        return file.getvalue().replace("\u00a0", " ")

    def test_a_pipe_gets_plain_text(self, paths: list[Path]) -> None:
        text = self.printed(False, *paths)
        assert "\x1b" not in text
        assert "Accuracy % of cifar_resnet20 on digits, 6 epochs, 2 seeds" in text
        rows = {line[:12].strip(): line[12:].split("  ") for line in text.splitlines()}
        assert [cell.strip() for cell in rows["BN"] if cell.strip()] == ["77.2 ± 0.3*", "52.0 ± 2.8", "76.6 ± 0.1*"]

    def test_nine_columns_fit_120_characters(self, make_run: Make) -> None:
        columns = [*(Geometry(8, n) for n in (32, 16, 8, 4, 2, 1)), *(Geometry(1, n) for n in (32, 16, 8))]
        runs = [make_run(norm, seed, folder=f"{norm}{g}{seed}", settings=at(g), epochs=1, layers=["norm"])
                for norm in ("bn", "gn+ws") for seed in (0, 1) for g in columns]  # fmt: skip
        text = self.printed(True, *runs)
        assert "…" not in text
        assert max(line.count("+8.0") for line in text.splitlines()) == 9
        assert max(line.count("±") for line in text.splitlines()) == 9

    def test_the_report_command_prints_it_too(self, paths: list[Path], runs: list[Path]) -> None:
        outputs = []
        for each in (paths, runs):
            file = io.StringIO()
            print_results(each, Console(file=file, width=200))
            outputs.append("SSN vs BN" in file.getvalue())
        assert outputs == [True, False]


class TestFigure:
    def test_a_line_per_normalizer_and_gpus_over_doubling_samples(self, paths: list[Path]) -> None:
        figure = by_samples(build(*paths))
        lines = [trace for trace in figure.data if trace.name]
        assert [(line.name, list(line.x)) for line in lines] == [
            ("BN", [16]), ("BN", [2, 32]), ("GN", [2, 32]), ("SSN", [2, 32]),
        ]  # fmt: skip
        assert list(lines[1].y) == pytest.approx([52.0, 77.2])
        assert [line.marker.symbol for line in lines[:2]] == ["circle-open", "circle"]
        assert (figure.layout.xaxis.type, figure.layout.xaxis.tickvals) == ("log", (2, 16, 32))

    def test_the_band_is_the_spread(self, paths: list[Path]) -> None:
        band = next(trace for trace in by_samples(build(*paths)).data if trace.fill == "toself")
        low, high = (100 * (0.520 + sign * stdev((0.500, 0.540))) for sign in (-1, 1))
        assert (band.y[0], band.y[-1]) == pytest.approx((high, low), abs=1e-3)

    def test_nothing_finished_is_no_figure(self) -> None:
        (grid,) = grids([], [Absent("bn", FULL, 0), Absent("bn", PAIR, 0)])
        assert by_samples(grid) is None


class TestPage:
    def test_the_section_is_there_where_geometries_differ(
        self, paths: list[Path], runs: list[Path], tmp_path: Path
    ) -> None:
        pages = [write(each, tmp_path / "report.html").read_text() for each in (paths, runs)]
        assert ["Accuracy by geometry" in page for page in pages] == [True, False]
        assert "<tbody>" in pages[0].partition("Accuracy by geometry")[2]

    def test_a_study_with_failures_says_them(self, paths: list[Path], tmp_path: Path) -> None:
        text = write(paths, tmp_path / "report.html", [Absent("sn", PAIR, 0, "<no> memory")]).read_text()
        assert "seed 0 failed: &lt;no&gt; memory." in text

    def test_few_groups_share_a_figure_many_are_folded_by_geometry(self, make_run: Make) -> None:
        runs = [make_run(norm, folder=f"{norm}{g}", settings=at(g)) for norm in ("gn+ws", "bn", "sn", "ssn")
                for g in (PAIR, FULL)]  # fmt: skip
        groups = group_runs(map(load_run, runs))
        assert list(fold(groups[:6])) == [""]
        folds = fold(groups)
        assert list(folds) == [FULL.title, PAIR.title]
        assert [group.label for group in folds[PAIR.title]] == ["BN", "SN", "SSN", "GN + WS"]

    def test_a_large_study_stays_a_small_page(self, make_run: Make, tmp_path: Path) -> None:
        layers = [f"layer{place}.norm" for place in range(20)]
        runs = [
            make_run(norm, folder=f"{norm}{geometry}", settings=at(geometry), epochs=30, layers=layers, final=0.8)
            for norm in ("bn", "gn", "sn", "ssn", "gn+ws")
            for geometry in (Geometry(8, samples) for samples in (32, 16, 8, 4, 2))
        ]  # fmt: skip
        from plotly.offline import get_plotlyjs

        text = write(runs, tmp_path / "report.html").read_text()
        assert len(text) - len(get_plotlyjs()) < 1e6
