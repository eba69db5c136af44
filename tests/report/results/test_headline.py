"""The title of the page, and the line below it."""

from __future__ import annotations

from pathlib import Path

from switchnorm.report.common.groups import Group, group_runs
from switchnorm.report.results.headline import comparison, headline
from switchnorm.report.results.result import results
from switchnorm.runs.run import load_run
from tests.report.conftest import Make, known_data, record


def grouped(*paths: Path) -> list[Group]:
    return group_runs([load_run(path) for path in paths])


def test_the_headline_is_the_lead_over_bn(runs: list[Path]) -> None:
    rows = results(grouped(*runs))
    assert headline(rows) == "SSN reaches 81.0 %, 11.0 points above BN, at 2 samples per GPU."


def test_a_lead_within_the_spread_is_called_so(make_run: Make) -> None:
    bn = [make_run("bn", seed) for seed in (0, 1)]
    sn = [make_run("sn", seed, final=0.698 + 0.001 * seed) for seed in (0, 1)]
    assert "(within the spread of the seeds)" in headline(results(grouped(*bn, *sn)))


def test_a_lead_after_more_epochs_is_called_so(make_run: Make) -> None:
    sn = make_run("sn", 1, epochs=9, settings={"train.epochs": 9})
    said = headline(results(grouped(make_run("bn", 1), sn)))
    assert said == "SN reaches 80.0 %, 10.0 points above BN (9 epochs against 6 epochs), at 2 samples per GPU."


def test_data_of_one_name_is_told_apart(make_run: Make) -> None:
    roots = {"bn": "cats", "sn": "planes"}
    paths = [
        known_data(make_run(norm, 1, settings={"data": {"name": "folder", "root": root}}), root[0])
        for norm, root in roots.items()
    ]
    rows = results(grouped(*paths))
    assert headline(rows) == "SN reaches 80.0 %, at 2 samples per GPU."
    where = "cifar_resnet20 on folder, root cats and cifar_resnet20 on folder, root planes"
    assert comparison(rows, []) == f"2 normalizers with 1 seed each: {where}, 6 epochs."


def test_a_seed_that_was_trained_again_is_one_seed(make_run: Make) -> None:
    paths = make_run("sn", 0, folder="a0"), record(make_run("sn", 0, folder="a0again"), created="2026-02-01T12:00:00")
    assert comparison(results(grouped(*paths)), []).startswith("1 normalizer with 1 seed:")


def test_bn_can_win(make_run: Make) -> None:
    rows = results(grouped(make_run("bn", 1, final=0.9), make_run("sn", 1)))
    assert headline(rows) == "BN reaches 90.0 %, the best of 2 compared, at 2 samples per GPU."


def test_the_setting_is_said_once(make_run: Make) -> None:
    sizes = [
        make_run(norm, 1, folder=f"{norm}{size}", settings={"train.samples_per_gpu": size})
        for norm in ("bn", "sn")
        for size in (1, 8)
    ]
    said = headline(results(grouped(*sizes)))
    assert said == "SN reaches 80.0 %, 10.0 points above BN, at 1 sample per GPU."


def test_rivals_of_one_normalizer_are_told_apart(make_run: Make) -> None:
    slow = make_run("sn", 1, folder="slow", final=0.75, settings={"optimizer.lr": 0.01})
    said = headline(results(grouped(make_run("bn", 1), make_run("sn", 1), slow)))
    assert said == "SN, lr 0.1 reaches 80.0 %, 10.0 points above BN, at 2 samples per GPU."


def test_one_run_alone_is_compared_with_nothing(make_run: Make) -> None:
    assert headline(results(grouped(make_run("sn", 1)))) == "SN reaches 80.0 %, at 2 samples per GPU."


def test_no_accuracy_no_finding(make_run: Make) -> None:
    path = make_run("sn")
    (path / "metrics.csv").write_text("epoch\n0\n")
    assert headline(results(grouped(path))) == "No validation accuracy has been measured."


def test_nothing_that_ended_no_finding(make_run: Make) -> None:
    going = record(make_run("sn"), status="running")
    assert headline(results(grouped(going))) == "No run with a validation accuracy has come to its end."


def test_what_was_compared(runs: list[Path]) -> None:
    groups = grouped(*runs)
    said = comparison(results(groups), [run for group in groups for run in group.runs])
    assert said == "4 normalizers with 3 seeds each: cifar_resnet20 on digits, 6 epochs."


def test_runs_that_go_on_are_counted(make_run: Make) -> None:
    path = make_run("sn")
    (path / "run.json").write_text('{"status": "running"}')
    said = comparison(results(grouped(path)), [load_run(path)])
    assert said == "1 normalizer with 1 seed: cifar_resnet20 on digits, 6 epochs. 1 run had not finished."


def test_runs_are_called_as_they_say(make_run: Make) -> None:
    mine = make_run("sn", 1, settings={"label": "SN, slow logits"})
    assert headline(results(grouped(make_run("bn", 1), mine))).startswith("SN, slow logits reaches 80.0 %")
