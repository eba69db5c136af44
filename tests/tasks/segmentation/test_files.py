"""The files of a segmentation run, and one clear line about each that is damaged."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image

from switchnorm.errors import InputError
from switchnorm.tasks.segmentation.files import read_classes, read_confusion, read_examples, read_scenes
from tests.report.conftest import Make
from tests.tasks.segmentation import scenes


def test_classes_are_those_after_the_last_epoch(make_scenes: Make) -> None:
    found = read_classes(make_scenes("sn"))
    # Stripes of 16 columns, predicted a column too far to the right; the last of the third is void.
    assert [(each.name, each.iou, each.accuracy, each.pixels) for each in found] == [
        ("class 0", round(16 / 17, 6), 1.0, 2 * 30 * 16),
        ("class 1", round(15 / 17, 6), round(15 / 16, 6), 2 * 30 * 16),
        ("class 2", round(14 / 15, 6), round(14 / 15, 6), 2 * 30 * 15),
        ("class 3", None, None, 0),
    ]


def test_confusion_is_by_target_and_prediction(make_scenes: Make) -> None:
    found = read_confusion(make_scenes("sn"))
    assert found is not None
    assert found.names == tuple(f"class {k}" for k in range(4))
    assert found.counts == ((960, 0, 0, 0), (60, 900, 0, 0), (0, 60, 840, 0), (0, 0, 0, 0))


def test_examples_hold_the_files_pictures(make_scenes: Make) -> None:
    path = make_scenes("sn")
    found = read_examples(path)
    assert found is not None
    assert (found.epoch, list(found.colours)) == (scenes.EPOCHS[-1], [f"class {k}" for k in range(4)])
    assert [each.name for each in found.pictures] == ["street", "square"]
    example = found.pictures[0]
    assert example.accuracy == pytest.approx(45 / 47)
    assert (example.target.width, example.target.height) == (48, 30)
    assert (example.target.labels, example.prediction.labels) == ((0, 1, 2, 255), (0, 1, 2))
    head, _, content = example.picture.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(content) == (path / "examples" / "street.jpg").read_bytes()


def test_an_empty_table_of_classes_is_none(make_scenes: Make) -> None:
    path = make_scenes("bn")
    (path / "classes.csv").write_text("epoch,class,iou,accuracy,pixels\n")
    assert read_classes(path) == ()


CLASSES, CONFUSION, EXAMPLES = "classes.csv", "confusion.csv", "examples/examples.json"
GOOD = {"epoch": 1, "classes": [], "pictures": [{"name": "street", "accuracy": 1, "mean_iou": 1}]}
TWICE = {"name": "a", "color": "#000000"}
HEADER = "epoch,class,iou,accuracy,pixels\n"
DAMAGE: dict[str, tuple[str, str | bytes | None, str]] = {
    "classes without a column": (CLASSES, "epoch,class\n", "must name the column 'iou'"),
    "no pixels": (CLASSES, HEADER + "0,road,,,\n", "line 2: pixels is '', expected a count"),
    "a percentage": (CLASSES, HEADER + "0,road,54,0.5,3\n", "line 2: iou is '54', expected a fraction from 0 to 1"),
    "a class twice": (CLASSES, HEADER + "0,a,,,3\n0,a,,,3\n", "line 3: class 'a' comes twice in an epoch"),
    "an empty matrix": (CONFUSION, "", "expected 'truth' and the classes"),
    "no header": (CONFUSION, "road,sky\nroad,1\n", "expected 'truth' and the classes"),
    "a class short": (CONFUSION, "truth,road,sky\nroad,1,2\n", "then a line for each of them in order"),
    "a count short": (CONFUSION, "truth,road,sky\nroad,1\nsky,1,2\n", "line 2: expected 2 counts of pixels"),
    "a share": (CONFUSION, "truth,road,sky\nroad,1,2\nsky,0.5,2\n", "line 3: expected 2 counts of pixels"),
    "not JSON": (EXAMPLES, "{", "(char 1); expected a run's test pictures"),
    "no pictures": (EXAMPLES, "{}", "expected epoch, classes with colours, and pictures with scores"),
    "a name for a number": (EXAMPLES, json.dumps(GOOD | {"epoch": "x"}), "expected epoch, classes"),
    "a file elsewhere": (EXAMPLES, json.dumps(GOOD | {"pictures": [{"name": "../a"}]}), "'../a' is no name"),
    "no colour": (EXAMPLES, json.dumps(GOOD | {"classes": [{"name": "a", "color": "red"}]}), "'red' is no colour"),
    "a colour twice": (EXAMPLES, json.dumps(GOOD | {"classes": [TWICE, TWICE]}), "two classes have the same name"),
    "a picture that is gone": ("examples/street.jpg", None, "street.jpg is missing, but examples.json lists it"),
    "half a picture": ("examples/street.truth.png", b"\x89PNG\r\n\x1a\n\x00", "cannot be read as a picture"),
    "another kind of file": ("examples/street.jpg", "<svg onload='alert(1)'/>", "cannot be read as a picture"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_line(make_scenes: Make, name: str, content: str | bytes | None, message: str) -> None:
    path = make_scenes("bn")
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_scenes(path)
    assert message in str(error.value)
    assert str(path / name.partition("/")[0]) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_tests_own_pictures_are_what_training_writes(make_scenes: Make) -> None:
    with Image.open(make_scenes("sn") / "examples" / "square.truth.png") as image:
        assert (image.mode, image.info["transparency"]) == ("P", 255)
        assert np.array_equal(np.asarray(image), scenes.stripes(4))
