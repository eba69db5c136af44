"""The files of a detector's run: read as they are written, and one clear line about each that is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from switchnorm.errors import InputError
from switchnorm.runs.tables import csv_text
from switchnorm.tasks.detection import files
from switchnorm.tasks.detection.average_precision import Scores, score
from switchnorm.tasks.detection.files import Curve, read_details
from tests.tasks.detection.pictures import tally

NAMES = ("square", "=bar, wide", "never")


@pytest.fixture(scope="module")
def scores() -> Scores:
    draw = np.random.default_rng(0)
    return score([tally(draw, place, classes=2, objects=5, detections=9, masks=True) for place in range(6)], 3)


@pytest.fixture
def run(scores: Scores, tmp_path: Path) -> Path:
    rows = [[epoch, *row] for epoch in (1, 2) for row in files.class_rows(NAMES, scores)]
    (tmp_path / files.CLASSES).write_text(csv_text([files.CLASS_COLUMNS, *rows]))
    (tmp_path / files.CURVES).write_text(files.curves_text(NAMES, scores))
    (tmp_path / files.EXAMPLES).mkdir()
    for kind in (files.OBJECTS, files.FOUND):
        Image.new("RGB", (6, 4)).save(tmp_path / files.EXAMPLES / f"a.{kind}")
    listed = [{"name": "a", "right": 3, "missed": 1, "wrong": 0}]
    text = files.examples_text(2, 0.3, dict.fromkeys(NAMES, "#102030"), listed)
    (tmp_path / files.EXAMPLES / files.EXAMPLES_LIST).write_text(text)
    return tmp_path


def test_what_is_written_is_read(run: Path, scores: Scores) -> None:
    found = read_details(run)
    assert tuple(each.name for each in found.classes) == NAMES
    assert scores.masks is not None
    for column, value in (
        ("ap", scores.boxes.of_classes()),
        ("ap75", scores.boxes.of_classes(0.75)),
        ("ar", scores.boxes.recall_of_classes),
        ("mask_ap50", scores.masks.of_classes(0.5)),
        ("mask_ar", scores.masks.recall_of_classes),
    ):
        read = [each.rates[column] for each in found.classes]
        assert read[2] is None, "a class without objects"
        assert read[:2] == pytest.approx(value[:2].tolist(), abs=1e-6)
    assert [each.objects for each in found.classes] == scores.objects.tolist()
    assert [each.detections for each in found.classes] == scores.detections.tolist()
    assert set(found.curves) == {(of, title) for of in ("box", "mask") for title, _ in files.OVERLAPS}
    curve = found.curves["mask", "0.75"]["=bar, wide"]
    assert curve.recalls == tuple(place / 100 for place in range(101))
    assert curve.precisions == pytest.approx(scores.masks.curves(0.75)[1].tolist(), abs=1e-6)
    assert set(found.curves["box", "0.50"]) == set(NAMES[:2])
    assert found.examples is not None
    example = found.examples.pictures[0]
    assert (example.name, example.right, example.missed, example.wrong) == ("a", 3, 1, 0)
    assert (found.examples.epoch, found.examples.shown, found.colours) == (2, 0.3, dict.fromkeys(NAMES, "#102030"))


def test_scores_at_recalls_are_in_the_file(run: Path, scores: Scores) -> None:
    rows = [line.split(",") for line in (run / files.CURVES).read_text().splitlines()[1:102]]
    assert rows[0][:3] == ["box", "0.50", "square"]
    written = [float(row[5]) if row[5] else np.nan for row in rows]
    np.testing.assert_allclose(written, scores.boxes.thresholds(0.5)[0], atol=1e-6)


def test_the_mean_curve_is_over_classes(run: Path) -> None:
    found = read_details(run)
    mean = found.mean_curve("box", "0.50")
    assert isinstance(mean, Curve)
    both = np.mean([curve.precisions for curve in found.curves["box", "0.50"].values()], axis=0)
    assert mean.precisions == pytest.approx(both.tolist())
    assert found.mean_curve("box", "0.60") is None


def test_without_masks_their_columns_are_empty() -> None:
    draw = np.random.default_rng(1)
    found = score([tally(draw, 0, classes=1, objects=3, detections=3)], 1)
    (row,) = files.class_rows(("a",), found)
    assert row[5:9] == ("",) * 4
    assert "mask" not in files.curves_text(("a",), found)


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert read_details(tmp_path) == files.Details((), {}, None)


HEADER = ",".join(files.CLASS_COLUMNS) + "\n"
CURVE = ",".join(files.CURVE_COLUMNS) + "\n"
GOOD = {"epoch": 1, "shown": 0.5, "classes": [], "pictures": []}
PICTURE = {"name": "a", "right": 1, "missed": 0, "wrong": 0}
LIST = f"{files.EXAMPLES}/{files.EXAMPLES_LIST}"
DAMAGE: dict[str, tuple[str, str | bytes | None, str]] = {
    "classes without a column": (files.CLASSES, "epoch,class\n", "must name the column 'ap'"),
    "no objects": (files.CLASSES, HEADER + "1,a,,,,,,,,,,3\n", "line 2: objects is '', expected a count"),
    "a percentage": (files.CLASSES, HEADER + "1,a,54,,,,,,,,1,3\n", "ap is '54', expected a fraction from 0 to 1"),
    "a class twice": (files.CLASSES, HEADER + "1,a,,,,,,,,,1,3\n" * 2, "line 3: class 'a' comes twice in an epoch"),
    "no precision": (files.CURVES, CURVE + "box,0.50,a,0.1,,\n", "line 2: expected a recall and a precision"),
    "a recall twice": (files.CURVES, CURVE + "box,0.50,a,0.1,1,\n" * 2, "line 3: recall is '0.1', expected more"),
    "a curve short": (
        files.CURVES,
        CURVE + "box,0.50,a,0.1,1,\nbox,0.50,a,0.2,1,\nbox,0.50,b,0.1,1,\n",
        "expected as many recalls of every class",
    ),
    "not JSON": (LIST, "{", "(char 1); expected a run's test pictures"),
    "no pictures": (LIST, "{}", "expected epoch, shown, classes with colours, and pictures with counts"),
    "a name for a number": (LIST, json.dumps(GOOD | {"epoch": "x"}), "expected epoch, shown"),
    "a count below 0": (LIST, json.dumps(GOOD | {"pictures": [PICTURE | {"wrong": -1}]}), "expected epoch, shown"),
    "a score of 2": (LIST, json.dumps(GOOD | {"shown": 2}), "shown is 2, expected a fraction"),
    "a file elsewhere": (LIST, json.dumps(GOOD | {"pictures": [PICTURE | {"name": "../a"}]}), "'../a' is no name"),
    "no colour": (LIST, json.dumps(GOOD | {"classes": [{"name": "a", "color": "red"}]}), "'red' is no colour"),
    "a class twice in the list": (
        LIST, json.dumps(GOOD | {"classes": [{"name": "a", "color": "#000000"}] * 2}), "two classes have the same name"
    ),
    "a picture that is gone": ("examples/a.objects.jpg", None, "a.objects.jpg is missing, but examples.json lists it"),
    "half a picture": ("examples/a.detections.jpg", b"\xff\xd8\xff", "cannot be read as a picture"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_line(run: Path, name: str, content: str | bytes | None, message: str) -> None:
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_details(run)
    assert message in str(error.value)
    assert str(run / name.partition("/")[0]) in str(error.value)
    assert "\n" not in str(error.value)
