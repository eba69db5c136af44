"""What training refuses before it opens a file is among what is wrong, and the rest is looked at."""

import json
import shutil

import pytest

from switchnorm.data import Coco, Masks, Voc, Yolo
from switchnorm.errors import InputError
from switchnorm.survey.whole import look_at
from tests.data.detection.formats import SHEETS, coco_of, write_coco, write_voc, write_yolo
from tests.training.scenes import VOID


def looked_at(dataset):
    """What is wrong, and how many pictures each split has; training refuses the data with the first of that."""
    with pytest.raises(InputError) as refused:
        dataset.prepare()
    there = dataset.looked_at()
    there.prepare()
    survey = look_at(there)
    wrong = [each.text for each in survey.findings if each.wrong]
    assert str(refused.value) in wrong
    return wrong, {one.summary.name: one.summary.looked for one in survey.seen}, survey


def coco(root, change):
    """Data in COCO's format whose training file was changed."""
    write_coco(root)
    content = coco_of()
    change(content)
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return Coco(str(root), workers=0)


def test_categories_that_are_not_known_are_counted_and_their_objects_left_out(tmp_path):
    def change(content):
        for each in content["annotations"][:2]:
            each["category_id"] = 77

    wrong, pictures, survey = looked_at(coco(tmp_path, change))
    assert len(wrong) == 1
    assert (
        "has category_id 77, which none of the 2 categories has, as 2 annotations have ids of no category" in wrong[0]
    )
    assert pictures == {"train": 3, "val": 3}
    assert survey.seen[0].summary.counts.total() == 1


def test_ids_of_images_that_occur_twice_are_counted(tmp_path):
    wrong, pictures, _ = looked_at(coco(tmp_path, lambda content: content["images"].append(content["images"][0])))
    assert "1 images have the id of another" in wrong[0]
    assert pictures == {"train": 4, "val": 3}


def test_pictures_that_are_missing_are_counted(tmp_path):
    data = coco(tmp_path, lambda content: None)
    (tmp_path / "train2017/b.jpg").unlink()
    wrong, pictures, _ = looked_at(data)
    assert wrong[1:] == ["train: 1 of 3 pictures is missing: b.jpg"]
    assert pictures == {"train": 3, "val": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["images"][0].pop("width"), "image 0 (the first is 0) has no 'width'"),
        (lambda content: content["annotations"][0].update(bbox=[float("nan"), 2, 3, 4]), "numbers that are not finite"),
        (lambda content: content.pop("categories"), "has no 'categories'"),
    ],
)
def test_a_split_that_cannot_be_read_leaves_the_other(tmp_path, change, message):
    wrong, pictures, _ = looked_at(coco(tmp_path, change))
    assert len(wrong) == 1
    assert message in wrong[0]
    assert pictures == {"val": 3}


def test_where_no_split_can_be_read_there_is_nothing_to_look_at(tmp_path):
    data = coco(tmp_path, lambda content: content.pop("images"))
    (tmp_path / "annotations/instances_val2017.json").write_text("{}")
    with pytest.raises(InputError, match=r"train2017\.json has no 'images'"):
        data.looked_at().prepare()


def test_a_class_that_only_the_test_pictures_have(tmp_path):
    write_voc(tmp_path, {"train": SHEETS[2:], "val": SHEETS})
    wrong, pictures, _ = looked_at(Voc(str(tmp_path), workers=0))
    assert len(wrong) == 1
    assert "val.txt 'dog' is unknown; choose from cat; data.names says which classes are taken" in wrong[0]
    assert pictures == {"train": 1, "val": 3}


def test_lines_of_no_class_are_counted_and_left_out(tmp_path):
    write_yolo(tmp_path / "yolo")
    labels = tmp_path / "yolo/labels/val/a.txt"
    labels.write_text(labels.read_text() + "\n7 0.5 0.5 0.2 0.2\n8 0.5 0.5 0.2 0.2\n")
    wrong, pictures, _ = looked_at(Yolo(str(tmp_path / "yolo"), workers=0))
    assert len(wrong) == 1
    assert "a.txt, line 3 has class 7, as 2 lines have classes without a name; " in wrong[0]
    assert pictures == {"train": 3, "val": 3}


def test_annotations_that_cannot_be_read_leave_the_others(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "Annotations/a.xml").write_text("<annotation>")
    wrong, pictures, _ = looked_at(Voc(str(tmp_path), workers=0))
    assert len(wrong) == 1
    assert pictures == {"train": 2, "val": 2}


def test_masks_that_are_missing_are_counted(scenes):
    (scenes / "valannot/val01.png").unlink()
    shutil.copy(scenes / "trainannot/train00.png", scenes / "trainannot/lonely.png")
    wrong, pictures, _ = looked_at(Masks(str(scenes), ignore=[VOID], workers=0))
    assert "1 of the 7 masks in" in wrong[0]
    assert "1 of the 3 pictures in" in wrong[1]
    assert wrong[2].startswith("val: 1 of 3 pictures ")
    assert pictures == {"train": 6, "val": 3}
