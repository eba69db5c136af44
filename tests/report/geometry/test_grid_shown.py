"""Scores by geometry as files, on the terminal, as a figure and on the page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from statistics import stdev

import pytest
from rich.console import Console

from switchnorm.report import Absent, load_run, print_grids, print_results, write, write_grids
from switchnorm.report.common.groups import group_runs
from switchnorm.report.geometry.folds import fold
from switchnorm.report.geometry.grid import grids
from switchnorm.report.geometry.grid_figure import by_samples
from switchnorm.runs.geometries import Geometry
from tests.report.conftest import Make
from tests.report.geometry.conftest import FULL, PAIR, at, build


class TestFiles:
    def test_json_has_every_number_and_its_origin(self, paths: list[Path], tmp_path: Path) -> None:
        absent = [Absent("sn", PAIR, 3, "no memory")]
        write_grids(paths, tmp_path, absent=absent, facts={"recipe": "mine", "seconds": 12.5})
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
        write_grids(paths, tmp_path, facts={"command": "switchnorm study geometry"})
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
