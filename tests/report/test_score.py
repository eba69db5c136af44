"""Each task has a score of its own: accuracy, or mean IoU."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from switchnorm.errors import InputError
from switchnorm.report import load_run, print_results, write, write_grids
from switchnorm.report.common.groups import group_runs
from switchnorm.report.geometry.grid import grids
from switchnorm.report.geometry.grid_figure import by_samples
from switchnorm.report.geometry.grid_table import grid_table
from switchnorm.report.results.headline import comparison, headline
from switchnorm.report.results.result import results
from switchnorm.report.results.results_table import results_table
from tests.report.conftest import Make
from tests.report.visits import markup


@pytest.fixture
def make_segmentation(make_run: Make) -> Make:
    """`make_run` for segmentation."""

    def make(norm: str, seed: int = 0, *, settings: dict[str, Any] | None = None, **options: Any) -> Path:
        data = {"data.name": "camvid", "model.name": "resnet18+c1_bilinear", **(settings or {})}
        return make_run(norm, seed, task="segmentation", settings=data, **options)

    return make


def rows(*paths: Path):
    return results(group_runs(map(load_run, paths)))


def test_a_run_is_judged_by_its_tasks_score(make_run: Make, make_segmentation: Make) -> None:
    scores = [load_run(path).score for path in (make_run("bn"), make_segmentation("sn"))]
    assert [(score.title, score.column) for score in scores] == [
        ("Accuracy", "val_accuracy"), ("Mean IoU", "val_mean_iou"),
    ]  # fmt: skip


def test_a_configuration_without_a_task_is_classification(make_run: Make) -> None:
    old = make_run("bn")
    (old / "config.yaml").write_text((old / "config.yaml").read_text().replace("task: classification\n", ""))
    assert load_run(old).score.name == "accuracy"
    (group,) = group_runs(map(load_run, (old, make_run("bn", 1))))
    assert len(group.runs) == 2


def test_an_unknown_task_is_one_line(make_run: Make) -> None:
    with pytest.raises(InputError, match=r"config.yaml: task 'segmentatio' is unknown; did you mean 'segmentation'\?"):
        load_run(make_run("bn", task="segmentatio"))


def test_the_table_is_about_mean_iou_and_tells_pixel_accuracy(make_segmentation: Make) -> None:
    table = results_table(rows(make_segmentation("bn", 0), make_segmentation("bn", 1), make_segmentation("sn", 1)))
    assert table.columns[:7] == (
        "Normalizer", "Mean IoU %", "vs BN", "Best %", "Pixel accuracy %", "Overall %", "Time",
    )  # fmt: skip
    assert [cell.text for cell in table.rows[0][:6]] == ["BN", "69.50 ± 0.71", "", "70.50", "79.50", "74.50"]
    assert [cell.text for cell in table.rows[1][:6]] == ["SN", "80.00", "+10.50", "81.00", "90.00", "85.00"]
    assert table.caption == "Validation mean IoU after the last epoch, and of the best one"


def test_scores_of_two_tasks_are_never_compared(make_run: Make, make_segmentation: Make) -> None:
    same = {"data.name": "masks", "model.name": "resnet50"}
    found = rows(make_run("bn", 1, folder="c", settings=same), make_segmentation("sn", 1, folder="s", settings=same))
    assert [row.difference for row in found] == [None, None]
    assert headline(found) == (
        "BN reaches 70.0 % accuracy, at 2 samples per GPU. SN reaches 80.0 % mean IoU, at 2 samples per GPU."
    )


def test_the_headline_names_the_score(make_segmentation: Make) -> None:
    found = rows(make_segmentation("bn", 1), make_segmentation("sn", 1))
    assert headline(found) == "SN reaches 80.0 % mean IoU, 10.0 points above BN, at 2 samples per GPU."
    assert comparison(found, []) == "2 normalizers with 1 seed each: resnet18+c1_bilinear on camvid, 6 epochs."
    path = make_segmentation("ssn")
    (path / "metrics.csv").write_text("epoch,val_accuracy\n0,0.9\n")
    assert headline(rows(path)) == "No validation mean IoU has been measured."


def test_the_terminal_has_a_table_for_each_score(make_run: Make, make_segmentation: Make) -> None:
    file = io.StringIO()
    print_results([make_run("bn", 1), make_segmentation("sn", 1)], Console(file=file, width=200))
    first, _, second = file.getvalue().partition("Validation mean IoU")
    assert "70.00" in first
    assert "80.00" not in first
    assert all(number in second for number in ("80.00", "90.00", "85.00"))
    assert "70.00" not in second


def test_geometries_are_compared_by_mean_iou(make_segmentation: Make, tmp_path: Path) -> None:
    paths = [
        make_segmentation(norm, 1, folder=f"{norm}{samples}",
                    settings={"train.samples_per_gpu": samples, "train.batch_size": 8 * samples})
        for norm in ("bn", "sn") for samples in (4, 2)
    ]  # fmt: skip
    (grid,) = grids(group_runs(map(load_run, paths)))
    assert grid_table(grid).caption.startswith("Mean IoU % of resnet18+c1_bilinear on camvid")
    assert [cell.text for cell in grid_table(grid).rows[1]] == ["SN", "80.0", "80.0"]
    assert by_samples(grid).layout.yaxis.title.text == "mean IoU, %"
    write_grids(paths, tmp_path)
    (table,) = json.loads((tmp_path / "table.json").read_text())["tables"]
    assert table["score"] == "mean IoU"
    assert table["cells"][0]["seeds"][0]["mean_iou"] == pytest.approx(0.7)
    assert "<h2>Mean IoU by geometry</h2>" in write(paths, tmp_path / "report.html").read_text()


def test_two_tasks_on_one_page_have_tables_and_curves_of_their_own(
    make_run: Make, make_segmentation: Make, tmp_path: Path
) -> None:
    text = markup(tmp_path, make_run("bn"), make_segmentation("sn"))
    captions = re.findall(r"<figcaption>([^<]*, %)</figcaption>", text)
    assert captions == ["Validation accuracy, %", "Validation mean IoU, %", "Validation pixel accuracy, %"]
    assert text.count("<h3>Classification</h3>") == text.count("<h3>Segmentation</h3>") == 2
