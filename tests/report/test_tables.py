"""Grouping, labels, and the numbers in the tables."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev

import pytest
from rich.console import Console
from switchnorm.report.groups import Group, display_norm, group_runs
from switchnorm.report.tables import Result, duration, importance_table, results, results_table, state
from switchnorm.report.words import comparison, headline, mixture

from switchnorm.report import load_run, print_importance, print_results
from tests.report.conftest import EPOCHS, LAYERS, Make


@dataclass(frozen=True)
class Record:
    """A layer as `switchnorm.importance(model)` gives it."""

    layer: str
    statistics: tuple[str, ...]
    mean: tuple[float, ...]
    var: tuple[float, ...]
    frozen: bool = False


MIXED = Record("conv1.norm", ("instance", "layer", "batch"), (0.2, 0.3, 0.5), (0.6, 0.3, 0.1))
HARD = Record("conv2.norm", ("instance", "layer", "batch"), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
HALF = Record("conv3.norm", ("instance", "layer", "batch"), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0))
FLAT = Record("head.norm", ("layer", "batch"), (0.4, 0.6), (0.7, 0.3))
FROZEN = Record("conv4.norm", ("instance", "layer", "batch"), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), frozen=True)


def grouped(*paths: Path) -> list[Group]:
    return group_runs([load_run(path) for path in paths])


def by_label(*paths: Path) -> dict[str, Result]:
    return {row.label: row for row in results(grouped(*paths))}


def cells(row: Result) -> dict[str, tuple[str, bool]]:
    table = results_table([row])
    return {title: (cell.text, cell.strong) for title, cell in zip(table.columns, table.rows[0], strict=True)}


class TestGroups:
    def test_seeds_share_a_group_under_the_normalizers_name(self, runs: list[Path]) -> None:
        groups = grouped(*reversed(runs))
        assert [group.label for group in groups] == ["SSN", "SN", "GN + WS", "BN"]
        assert [[run.seed for run in group.runs] for group in groups] == [[0, 1, 2]] * 4

    def test_a_label_says_what_tells_groups_of_one_normalizer_apart(self, make_run: Make) -> None:
        groups = grouped(
            make_run("bn"),
            make_run("sn", folder="a"),
            make_run("sn", folder="b", settings={"train.samples_per_gpu": 16}),
            make_run("sn", folder="c", settings={"train.samples_per_gpu": None}),
        )
        assert [group.label for group in groups] == [
            "BN", "SN, samples per GPU 2", "SN, samples per GPU 16", "SN, samples per GPU 32",
        ]  # fmt: skip

    def test_a_label_is_no_longer_than_needed(self, make_run: Make) -> None:
        other = {"model.name": "resnet50", "data.name": "cifar10", "optimizer.lr": 0.5, "train.epochs": 90}
        groups = grouped(make_run("sn"), make_run("sn", folder="b", settings=other))
        assert [group.label for group in groups] == ["SN, digits", "SN, cifar10"]

    def test_any_key_can_tell_groups_apart(self, make_run: Make) -> None:
        other = {"optimizer.weight_decay": 0.1}
        groups = grouped(make_run("sn"), make_run("sn", folder="b", settings=other))
        assert [group.label for group in groups] == ["SN, weight decay none", "SN, weight decay 0.1"]

    def test_lists_in_a_configuration_are_compared(self, make_run: Make) -> None:
        milestones = [{"schedule.milestones": [3, 4]}, {"schedule.milestones": [3, 5]}]
        groups = grouped(*(make_run("sn", folder=str(place), settings=each) for place, each in enumerate(milestones)))
        assert [group.label for group in groups] == ["SN, milestones [3, 4]", "SN, milestones [3, 5]"]

    def test_names_for_readers(self) -> None:
        assert [display_norm(norm) for norm in ("bn", "gn+ws", "ssn")] == ["BN", "GN + WS", "SSN"]


class TestResults:
    def test_means_spread_and_differences(self, runs: list[Path]) -> None:
        row = by_label(*runs)["SN"]
        assert (row.seeds, row.epochs, row.samples_per_gpu) == (3, (EPOCHS, EPOCHS), 2)
        assert row.value == pytest.approx(0.80)
        assert row.spread == pytest.approx(stdev([0.79, 0.80, 0.81]))
        assert row.best == pytest.approx(0.81)
        assert row.difference == pytest.approx(0.10)
        assert row.seconds == pytest.approx(41)

    def test_the_table_shows_them_and_the_best_is_strong(self, runs: list[Path]) -> None:
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

    def test_the_best_of_each_data_set_is_strong(self, make_run: Make) -> None:
        other = {"data.name": "cifar10"}
        paths = [make_run("bn"), make_run("sn"), make_run("bn", folder="c", settings=other)]
        table = results_table(list(by_label(*paths).values()))
        assert [row[0].text for row in table.rows if row[0].strong] == ["SN", "BN, cifar10"]

    def test_one_seed_has_no_spread(self, make_run: Make) -> None:
        row = by_label(make_run("sn", 1))["SN"]
        assert row.spread is None
        assert cells(row)["Accuracy %"] == ("80.00", True)

    def test_no_bn_no_column_for_it(self, make_run: Make) -> None:
        assert "vs BN" not in cells(by_label(make_run("sn"))["SN"])

    def test_bn_is_compared_with_only_in_the_same_setting(self, make_run: Make) -> None:
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

    def test_the_closest_of_several_bn_is_the_baseline(self, make_run: Make) -> None:
        decay = {"optimizer.lr": 0.5}
        rows = by_label(
            make_run("bn", folder="a"), make_run("bn", folder="b", settings=decay), make_run("sn", settings=decay)
        )
        assert rows["SN"].baseline is not None
        assert rows["SN"].baseline.label == "BN, lr 0.5"

    def test_nothing_measured_is_a_dash(self, make_run: Make) -> None:
        path = make_run("sn")
        (path / "metrics.csv").write_text("epoch,train_loss\n0,1\n")
        (path / "run.json").write_text("{}")
        row = by_label(path)["SN"]
        assert (row.value, row.seconds, row.difference) == (None, None, None)
        assert cells(row)["Accuracy %"] == ("–", False)

    def test_seeds_of_different_length_show_both(self, make_run: Make) -> None:
        row = by_label(make_run("sn", 0), make_run("sn", 1, epochs=4))["SN"]
        assert cells(row)["Epochs"] == ("4 to 6", False)

    def test_a_time_is_shown_in_a_fitting_unit(self) -> None:
        assert [duration(time) for time in (41.2, 300, 9000, None)] == ["41 s", "5.0 min", "2.5 h", "–"]


class TestWords:
    def test_the_headline_is_the_lead_over_bn(self, runs: list[Path]) -> None:
        rows = results(grouped(*runs))
        assert headline(rows) == "SSN reaches 81.0 %, 11.0 points above BN, at 2 samples per GPU."

    def test_a_lead_within_the_spread_is_called_so(self, make_run: Make) -> None:
        bn = [make_run("bn", seed) for seed in (0, 1)]
        sn = [make_run("sn", seed, final=0.698 + 0.001 * seed) for seed in (0, 1)]
        assert "(within the spread of the seeds)" in headline(results(grouped(*bn, *sn)))

    def test_bn_can_win(self, make_run: Make) -> None:
        rows = results(grouped(make_run("bn", 1, final=0.9), make_run("sn", 1)))
        assert headline(rows) == "BN reaches 90.0 %, the best of 2 compared, at 2 samples per GPU."

    def test_the_setting_is_said_once(self, make_run: Make) -> None:
        sizes = [
            make_run(norm, 1, folder=f"{norm}{size}", settings={"train.samples_per_gpu": size})
            for norm in ("bn", "sn")
            for size in (1, 8)
        ]
        said = headline(results(grouped(*sizes)))
        assert said == "SN reaches 80.0 %, 10.0 points above BN, at 1 sample per GPU."

    def test_rivals_of_one_normalizer_are_told_apart(self, make_run: Make) -> None:
        slow = make_run("sn", 1, folder="slow", final=0.75, settings={"optimizer.lr": 0.01})
        said = headline(results(grouped(make_run("bn", 1), make_run("sn", 1), slow)))
        assert said == "SN, lr 0.1 reaches 80.0 %, 10.0 points above BN, at 2 samples per GPU."

    def test_one_run_alone_is_compared_with_nothing(self, make_run: Make) -> None:
        assert headline(results(grouped(make_run("sn", 1)))) == "SN reaches 80.0 %, at 2 samples per GPU."

    def test_no_accuracy_no_finding(self, make_run: Make) -> None:
        path = make_run("sn")
        (path / "metrics.csv").write_text("epoch\n0\n")
        assert headline(results(grouped(path))) == "No validation accuracy has been measured."

    def test_what_was_compared(self, runs: list[Path]) -> None:
        groups = grouped(*runs)
        said = comparison(results(groups), [run for group in groups for run in group.runs])
        assert said == "4 normalizers with 3 seeds each: cifar_resnet20 on digits, 6 epochs."

    def test_runs_that_go_on_are_counted(self, make_run: Make) -> None:
        path = make_run("sn")
        (path / "run.json").write_text('{"status": "running"}')
        said = comparison(results(grouped(path)), [load_run(path)])
        assert said == "1 normalizer with 1 seed: cifar_resnet20 on digits, 6 epochs. 1 run had not finished."

    def test_the_mixture_in_words(self, make_run: Make) -> None:
        said = mixture(load_run(make_run("ssn")).choices).replace("\u00a0", " ")
        assert said.startswith("On average over the layers, the mean relies on ")
        assert "of 9 layers chose a single statistic" in said


class TestImportance:
    def test_a_row_per_layer_the_largest_of_each_moment_strong(self) -> None:
        table = importance_table([MIXED, HARD])
        assert table.columns == (
            "Layer", "mean instance", "mean layer", "mean batch",
            "variance instance", "variance layer", "variance batch", "State",
        )  # fmt: skip
        assert [cell.text for cell in table.rows[0]] == [
            "conv1.norm",
            "0.20",
            "0.30",
            "0.50",
            "0.60",
            "0.30",
            "0.10",
            "",
        ]
        assert [cell.text for cell in table.rows[0] if cell.strong] == ["0.50", "0.60"]
        assert [cell.share for cell in table.rows[0][1:-1]] == [*MIXED.mean, *MIXED.var]

    def test_a_statistic_that_a_layer_lacks_is_blank(self) -> None:
        row = importance_table([MIXED, FLAT]).rows[1]
        assert [cell.text for cell in row] == ["head.norm", "", "0.40", "0.60", "", "0.70", "0.30", ""]

    def test_how_settled_a_layer_is(self) -> None:
        assert [state(layer) for layer in (MIXED, HARD, HALF, FROZEN)] == ["", "one-hot", "mean one-hot", "frozen"]


class TestTerminal:
    def printed(self, terminal: bool, *paths: Path, layers: list[Record] | None = None, width: int = 80) -> str:
        console = Console(file=io.StringIO(), force_terminal=terminal, width=width, legacy_windows=False)
        if layers is None:
            print_results(paths, console)
        else:
            print_importance(layers, console)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def test_a_pipe_gets_plain_text_with_a_star_at_the_best(self, runs: list[Path]) -> None:
        text = self.printed(False, *runs, width=40)
        assert "\x1b" not in text
        assert [line.split()[0] for line in text.splitlines() if "±" in line] == ["BN", "GN", "SN", "SSN*"]
        assert "samples per GPU 2, network cifar_resnet20, data digits, seeds 3, epochs 6" in text

    def test_what_differs_has_a_column(self, make_run: Make) -> None:
        text = self.printed(False, make_run("bn"), make_run("sn", settings={"train.samples_per_gpu": 4}))
        assert "Samples per GPU" in text
        assert "network cifar_resnet20" in text

    @pytest.mark.parametrize("layers", [[MIXED, HARD, FLAT, FROZEN]])
    def test_eighty_columns_hold_every_number(self, layers: list[Record]) -> None:
        text = self.printed(True, layers=layers)
        assert "…" not in text
        assert "\x1b[1m" in text
        assert all(name in text for name in ("conv1.norm", "0.60", "frozen", "one-hot", "█ 1.00"))

    def test_names_are_never_markup(self) -> None:
        tricky = Record("[red]layer[/red]", *(getattr(MIXED, name) for name in ("statistics", "mean", "var")))
        assert "[red]layer[/red]" in self.printed(False, layers=[tricky])

    def test_a_model_without_mixing_layers_is_told_so(self) -> None:
        assert self.printed(False, layers=[]).strip() == "No layer mixes statistics."

    def test_layers_of_a_run_print_too(self, make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
        print_importance(load_run(make_run("sn")).choices)
        out = capsys.readouterr().out
        assert all(layer in out for layer in LAYERS)
