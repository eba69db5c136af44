"""Folders in YOLO's format: data.yaml, layouts, outlines, and what is wrong with them."""

import re

import numpy as np
import pytest
from pycocotools import mask as witness

from switchnorm.data import Yolo
from switchnorm.data.detection.yolo_file import read_yolo
from switchnorm.errors import InputError
from tests.data.detection.formats import SHEETS, Sheet, Thing, write_pictures, write_yolo, yolo_of

NAMES = "names: [cat, dog]\n"


def yolo(root, **options):
    return Yolo(str(root), workers=0, **options)


def place(root, pictures, labels):
    write_pictures(root / pictures)
    (root / labels).mkdir(parents=True, exist_ok=True)
    for sheet in SHEETS:
        (root / labels / sheet.name.replace(".jpg", ".txt")).write_text(yolo_of(sheet))


@pytest.mark.parametrize(
    ("text", "pictures", "labels"),
    [
        (NAMES, "images/train", "labels/train"),
        (NAMES, "train/images", "train/labels"),
        (NAMES + "train: ../train/images\n", "train/images", "train/labels"),
        (NAMES + "path: .\ntrain: pictures\n", "pictures", "pictures"),
        (NAMES + "path: deep\ntrain: images/one\n", "deep/images/one", "deep/labels/one"),
        ("names: {1: dog, 0: cat}\nnc: 2\ntrain: images/train\n", "images/train", "labels/train"),
        (NAMES + "train: [images/one, images/two]\n", "images/one", "labels/one"),
        (NAMES + "train: list.txt\n", "images/all", "labels/all"),
    ],
)
def test_layouts(tmp_path, text, pictures, labels):
    place(tmp_path, pictures, labels)
    if "two" in text:
        write_pictures(tmp_path / "images/two", [Sheet("d.jpg", (20, 20))])
        (tmp_path / "labels/two").mkdir()
        (tmp_path / "labels/two/d.txt").touch()
    (tmp_path / "list.txt").write_text("".join(f"./images/all/{sheet.name}\n" for sheet in SHEETS))
    (tmp_path / "data.yaml").write_text(text)
    data = yolo(tmp_path)
    data.prepare()
    assert data.train_size == 4 if "two" in text else 3
    assert data.classes == ("cat", "dog")
    assert data._train.objects(0).labels.tolist() == [2, 1]
    assert not data.unusual()


def test_a_path_of_elsewhere_gives_way_to_the_usual_one_and_that_is_said(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(NAMES + "train: /content/set/images/train\n")
    data = yolo(tmp_path)
    assert data.train_size == 3
    assert "paths for train in data.yaml that are not here, for which" in data.unusual()[0]


def test_names_without_data_yaml(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(InputError, match=r"names no classes; looked for data\.yaml, classes\.txt"):
        yolo(tmp_path).prepare()
    assert yolo(tmp_path, names=["katze", "hund"])._train.objects(0).labels.tolist() == [2, 1]
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert yolo(tmp_path).classes == ("cat", "dog")
    (tmp_path / "mine.yml").write_text("names: [Katze, Hund]\n")
    assert yolo(tmp_path).classes == ("Katze", "Hund")
    (tmp_path / "other.yaml").write_text(NAMES)
    with pytest.raises(InputError, match=r"holds mine\.yml, other\.yaml; name one as data\.data_yaml"):
        yolo(tmp_path).prepare()
    assert yolo(tmp_path, data_yaml="other.yaml").classes == ("cat", "dog")


def test_numbers_of_classes_may_have_gaps(tmp_path):
    place(tmp_path, "images/train", "labels/train")
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog, 7: fox}\n")
    (tmp_path / "labels/train/b.txt").write_text("7 .5 .5 .5 .5\n")
    data = yolo(tmp_path)
    assert data.classes == ("cat", "dog", "fox")
    assert data._train.objects(1).labels.tolist() == [3]


def test_outlines_are_masks_and_boxes_beside_them_are_said(tmp_path):
    ring = (4.0, 3.0, 30.0, 6.0, 20.0, 25.0)
    write_yolo(
        tmp_path, {"train": (Sheet("a.jpg", (40, 30), (Thing("cat", (0, 0, 1, 1), ring), SHEETS[0].things[0])),)}
    )
    data = yolo(tmp_path)
    objects = data._train.objects(0)
    assert objects.boxes[0].tolist() == pytest.approx([4, 3, 30, 25], abs=1e-5)
    mask = witness.merge(witness.frPyObjects([list(ring)], 30, 40))
    assert (witness.decode(objects.masks[0]) == witness.decode(mask)).all()
    assert objects.area.tolist() == [float(witness.area(mask)), 17 * 12]
    assert "objects without a mask, which take their box as one: 1" in data.unusual()[0]
    assert yolo(tmp_path, masks=False)._train.masks is None


def test_pictures_without_labels_have_no_objects_and_that_is_said(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels/train/b.txt").unlink()
    (tmp_path / "labels/train/z.txt").touch()
    data = yolo(tmp_path)
    said = data.unusual()
    assert "train leaves out labels without a picture: 1" in said[0]
    assert "train changes pictures without a file of labels, taken as without objects: 1" in said[1]
    assert data._train.counts.tolist() == [2, 0, 1]


def test_labels_that_a_system_spells_otherwise_are_found(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "images/train/a.jpg").rename(tmp_path / "images/train/caf\u00e9.jpg")
    (tmp_path / "labels/train/a.txt").rename(tmp_path / "labels/train/cafe\u0301.txt")
    (tmp_path / "labels/train/c.txt").rename(tmp_path / "labels/train/c.TXT")
    data = yolo(tmp_path)
    assert sorted(data._train.counts.tolist()) == [0, 1, 2]
    assert not data.unusual(training=True)


def test_of_keypoints_the_boxes_are_taken_and_that_is_said(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(NAMES + "kpt_shape: [2, 3]\n")
    (tmp_path / "labels/train/a.txt").write_text("0 .5 .5 .2 .4 .5 .5 2 0 0 0\n1 .5 .5 .2 .4\n")
    data = yolo(tmp_path)
    boxes = data._train.objects(0).boxes.flatten().tolist()
    assert boxes == pytest.approx([16, 9, 24, 21] * 2)
    assert data._train.masks is None
    assert "objects of a dataset of keypoints, whose boxes alone are taken: 3" in data.unusual()[0]
    (tmp_path / "labels/train/a.txt").write_text("0 .5 .5 .2 .4 .5 .5 2\n")
    with pytest.raises(InputError, match=r"has 7 numbers behind the class; expected 4 of a box and, .* 6 of key"):
        yolo(tmp_path).prepare()


def pose(draw, shape):
    """A line of a box with keypoints in it, some of which are not there."""
    size = draw.uniform(0.1, 0.4, 2)
    middle = draw.uniform(size / 2, 1 - size / 2)
    points = middle + draw.uniform(-0.5, 0.5, (shape[0], 2)) * size
    points[draw.random(shape[0]) < 0.2] = 0
    if shape[1] == 3:
        points = np.concatenate([points, draw.integers(0, 3, (shape[0], 1))], 1)
    return " ".join(["0", *(f"{number:.6g}" for number in (*middle, *size, *points.ravel()))])


@pytest.mark.parametrize(
    ("shape", "count", "refused"),
    [
        ((17, 2), 12, True),
        ((4, 3), 12, True),
        ((17, 2), 4, False),
        ((2, 2), 12, False),
    ],
)
def test_keypoints_that_nothing_says_do_not_pass_as_outlines(tmp_path, shape, count, refused):
    draw = np.random.default_rng(0)
    write_yolo(tmp_path)
    for name in "abc":
        (tmp_path / f"labels/train/{name}.txt").write_text("")
    lines = "\n".join(pose(draw, shape) for _ in range(count))
    (tmp_path / "labels/train/b.txt").write_text(f"1 .5 .5 .2 .4\n{lines}\n")
    which = f"kpt_shape: [{shape[0]}, {shape[1]}]"
    if refused:
        with pytest.raises(
            InputError, match=rf"b\.txt, line 2, and all {count} outlines of .*; say {re.escape(which)} in"
        ):
            yolo(tmp_path).prepare()
    else:
        said = yolo(tmp_path).unusual()[0]
        assert (
            f"train changes lines taken as outlines that fit a box and {shape[0]} keypoints as well, as {which}" in said
        )
    for text, boxes in ((which, True), ("kpt_shape: null", False)):
        (tmp_path / "data.yaml").write_text(f"{NAMES}{text}\n")
        data = yolo(tmp_path)
        assert (data._train.masks is None) == boxes
        assert not any("keypoints as well" in line for line in data.unusual())


def test_outlines_of_one_length_are_outlines(tmp_path):
    draw = np.random.default_rng(0)
    write_yolo(tmp_path)
    rings = draw.uniform(0.05, 0.9, (20, 1, 2)) + draw.uniform(0, 0.1, (20, 17, 2))
    lines = (" ".join(["0", *(f"{number:.6g}" for number in ring.ravel())]) for ring in rings)
    (tmp_path / "labels/train/b.txt").write_text("\n".join(lines))
    data = yolo(tmp_path)
    assert data._train.counts.tolist()[1] == 20
    assert not any("keypoints" in line for line in data.unusual())


def test_an_odd_number_of_numbers_may_be_a_box_and_keypoints(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels/train/b.txt").write_text(pose(np.random.default_rng(0), (17, 3)))
    with pytest.raises(
        InputError, match=r"has 55 numbers behind the class; .*17 keypoints kpt_shape: \[17, 3\] in data"
    ):
        yolo(tmp_path).prepare()


def test_no_labels_at_all_are_an_error(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "label")
    with pytest.raises(
        InputError, match=r"none of the 3 pictures .* has a file of labels; expected .*labels/train/a\.tx"
    ):
        yolo(tmp_path).prepare()


def test_two_pictures_of_one_name_are_refused(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "images/train/a.jpg").rename(tmp_path / "images/train/c.png")
    with pytest.raises(InputError, match=r"images/train/c\.png and images/train/c\.jpg have the same labels"):
        yolo(tmp_path).prepare()


def test_a_class_beyond_the_names_is_named(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels/train/b.txt").write_text("0 .5 .5 .1 .1\n\n2 .5 .5 .1 .1\n")
    with pytest.raises(InputError, match=r"labels/train/b\.txt, line 3 has class 2; .*data\.yaml names 0 to 1"):
        yolo(tmp_path).prepare()


LINES = {
    "words": ("cat .5 .5 .1 .1", "'cat .5 .5 .1 .1'; expected a class"),
    "a class and a half": ("0.5 .5 .5 .1 .1", "class 0.5; expected a whole number"),
    "a negative class": ("-1 .5 .5 .1 .1", "class -1; expected a whole number"),
    "NaN for a class": ("nan .5 .5 .1 .1", "class nan"),
    "too few": ("0 .5 .5 .1", "3 numbers behind the class"),
    "a score": ("0 .5 .5 .1 .1 .9", "5 numbers behind the class, as detections with a score"),
    "an odd outline": ("0 .1 .1 .2 .2 .3 .3 .4", "7 numbers behind the class"),
    "pixels": ("0 320 240 64 48", "has 320; expected shares of the picture's sides, from 0 to 1, not pixels"),
    "NaN": ("0 .5 nan .1 .1", "has nan; expected shares"),
    "infinity": ("0 .5 inf .1 .1", "has inf; expected shares"),
    "a zero byte": ("0 .5 .5 .1 .1\0", "line 1 is no text"),
}


@pytest.mark.parametrize("wrong", LINES)
def test_lines_that_cannot_be_are_named(tmp_path, wrong):
    text, said = LINES[wrong]
    (tmp_path / "a.txt").write_text(text + "\n")
    with pytest.raises(InputError, match=said) as caught:
        read_yolo(tmp_path / "a.txt")
    assert "line 1" in str(caught.value)


YAML = {
    "no mapping": ("- a\n", "is no description of a YOLO dataset; expected keys such as 'names'"),
    "no names": ("train: images/train\n", "names None; expected a list of classes"),
    "names that are truth": ("names: [yes, no]\n", "class 0 is called True; expected a name, in quotes if in doubt"),
    "a name twice": ("names: [a, a]\n", "classes 0 and 1 are both called 'a'"),
    "a number of words": ("names: {a: b}\n", "names has the number 'a'"),
    "another count": ("nc: 3\n" + NAMES, "line 1: nc is 3, and names has 2"),
    "a place of numbers": (NAMES + "train: 3\n", "line 2: train 3; expected paths"),
    "keypoints of words": (NAMES + "kpt_shape: 17\n", r"line 2: kpt_shape 17; expected .* as in \[17, 3\]"),
    "nested": ("names: " + "[" * 300, "nested more than"),
}


@pytest.mark.parametrize("wrong", YAML)
def test_descriptions_that_cannot_be_are_named(tmp_path, wrong):
    text, said = YAML[wrong]
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        yolo(tmp_path).prepare()
