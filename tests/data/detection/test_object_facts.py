"""What `switchnorm check` sees of pictures with objects, and how they are drawn."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image

from switchnorm.data import Coco
from switchnorm.survey.tables import class_table, split_table
from switchnorm.survey.whole import look_at
from switchnorm.tasks.detection.drawing import ObjectDrawing
from tests.data.detection.formats import SHEETS, write_coco
from tests.data.photos import photo


def surveyed(root, **options):
    return look_at(Coco(str(root), workers=0, **options))


def test_a_whole_dataset_has_nothing_wrong(tmp_path):
    write_coco(tmp_path)
    survey = surveyed(tmp_path, short_sides=[32], longest=None)
    assert not survey.wrong
    said = [each.text for each in survey.findings]
    assert "train: 1 of 3 pictures has no objects: b.jpg" in said
    rows = {row[0].text: row[1].text for row in split_table(survey).rows}
    assert (rows["objects"], rows["masks"], rows["without objects"]) == ("3", "no", "1")
    assert (rows["small, to 32x32"], rows["large"]) == ("100.0 %", "0.0 %")
    table = class_table(survey)
    assert table.columns[:4] == ("Class", "train", "train %", "train pictures")
    assert [[cell.text for cell in row[:4]] for row in table.rows] == [
        ["cat", "2", "66.67", "2"],
        ["dog", "1", "33.33", "1"],
    ]


def test_what_is_odd_is_said(tmp_path):
    write_coco(tmp_path)
    file = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 9})
    content["annotations"].append({**content["annotations"][0], "id": 10, "bbox": [1, 1, 2, 20], "iscrowd": 1})
    file.write_text(json.dumps(content))
    photo(5, 41, 30).save(tmp_path / "train2017/a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(6, 36, 24).save(tmp_path / "train2017/c.jpg", exif=exif)
    said = [each.text for each in surveyed(tmp_path, short_sides=[32], longest=None).findings]
    assert (
        "train: 1 of 3 pictures is of another size than their annotations state: a.jpg (41x30, boxes are for 40x30)"
        in said
    )
    assert any("lie on their side by EXIF, and so do their boxes" in line and "c.jpg" in line for line in said)
    assert "train: 1 of 3 pictures has an object twice, of one class and with one box: a.jpg" in said
    assert "train: 1 of 5 objects are narrower than 4 pixels as training resizes them" in said
    assert "train: 1 of 5 objects are crowds, which are neither learned nor counted" in said


def test_samples_are_drawn_with_their_boxes(tmp_path):
    write_coco(tmp_path)
    data = Coco(str(tmp_path), workers=0, short_sides=[64], longest=None)
    drawing = ObjectDrawing(data)
    assert list(drawing.colours()) == ["cat", "dog"]
    split = data.surveyed()[0]
    with_objects, without = (drawing.stored(split, index) for index in (0, 1))
    assert with_objects.picture.size == SHEETS[0].size
    assert with_objects.caption == "a.jpg"
    assert not np.array_equal(with_objects.picture, split.picture(0))
    assert np.array_equal(without.picture, split.picture(1))
    loader = data.train_batches(batch_size=1, seed=0)
    images, targets = next(iter(loader))
    shown = drawing.trained(Image.new("RGB", (images.shape[3], images.shape[2])), targets[0])
    assert shown.picture.size == tuple(targets[0]["size"].tolist())[::-1]
    assert bool(np.asarray(shown.picture).any()) == bool(len(targets[0]["boxes"]))


def test_looking_needs_no_torch():
    code = "import sys, switchnorm.data.detection.object_facts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
