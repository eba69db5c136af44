"""Epochs count from 1 in every file of a run, and files of earlier versions, which count from 0, are read so too."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from switchnorm.report import load_run
from switchnorm.runs.run import start_epoch
from switchnorm.runs.tables import EpochTable
from switchnorm.tasks.segmentation.files import read_examples, renumber_examples
from tests.report.conftest import EPOCHS, Make
from tests.tasks.segmentation import scenes

COLUMNS = ("epoch", "loss")


def older(path: Path) -> None:
    """Let a table count from one epoch before."""
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *([int(row[0]) - 1, *row[1:]] for row in rows)])


def begin_at(path: Path, start: int) -> None:
    """Let a run have begun after so many epochs that counted as done."""
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["train"]["start_epoch"] = start
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("metrics.csv", "importance.csv"):
        with (path / name).open(newline="") as file:
            head, *rows = csv.reader(file)
        with (path / name).open("w", newline="") as file:
            csv.writer(file).writerows([head, *([int(row[0]) + start, *row[1:]] for row in rows)])


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("names", [(), ("metrics.csv",), ("metrics.csv", "importance.csv")])
def test_a_run_says_the_same_whether_its_files_count_from_0_or_from_1(make_run: Make, start, names):
    path = make_run("ssn")
    begin_at(path, start)
    for name in names:  # one alone where a kill came between the two
        older(path / name)
    run = load_run(path)
    expected = list(range(start + 1, start + EPOCHS + 1))
    assert [row["epoch"] for row in run.metrics] == expected
    assert list(run.importance) == list(run.measured("val_accuracy")) == expected


@pytest.mark.parametrize(("start", "written"), [(0, "0,a\n1,b\n2,c\n"), (0, "1,a\n2,b\n3,c\n"), (4, "4,a\n5,b\n6,c\n")])
def test_an_older_table_that_is_continued_counts_from_1(tmp_path, start, written):
    path = tmp_path / "metrics.csv"
    path.write_text(f"epoch,loss\n{written}")
    table = EpochTable(path, COLUMNS, start + 2, start)
    table.append([[start + 3, "new"]])
    assert path.read_text() == f"epoch,loss\n{start + 1},a\n{start + 2},b\n{start + 3},new\n"
    again = EpochTable(path, COLUMNS, start + 3, start)
    again.append([[start + 4, "last"]])
    assert path.read_text().endswith(f"{start + 3},new\n{start + 4},last\n")


def test_examples_of_an_older_run_count_as_its_classes_do(tmp_path):
    scenes.write(tmp_path, 4, 3)
    listed = tmp_path / "examples/examples.json"
    listed.write_text(json.dumps({**json.loads(listed.read_text()), "epoch": scenes.EPOCHS[-1] - 1}))
    older(tmp_path / "classes.csv")
    assert read_examples(tmp_path).epoch == scenes.EPOCHS[-1]
    renumber_examples(tmp_path, 0)
    EpochTable(tmp_path / "classes.csv", ("epoch", "class", "iou", "accuracy", "pixels"), scenes.EPOCHS[-1], 0)
    for _ in range(2):
        assert read_examples(tmp_path).epoch == scenes.EPOCHS[-1]
        renumber_examples(tmp_path, 0)  # nothing to do any more


@pytest.mark.parametrize(("config", "start"), [({}, 0), ({"train": None}, 0), ({"train": {"start_epoch": 2}}, 2)])
def test_a_run_begins_where_its_configuration_says(config, start):
    assert start_epoch(config) == start
