"""Files in COCO's format: layouts, masks, crowds, ids, and what is wrong with them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as witness

from switchnorm.data import Coco
from switchnorm.data.detection.coco_file import read_coco
from switchnorm.errors import InputError
from tests.data.detection.formats import SHEETS, Sheet, Thing, coco_of, write_coco, write_pictures

RING = (2.5, 3.25, 14.7, 3.3, 12.0, 11.15, 2.0, 9.0)


def written(root, content, name="annotations/instances_train2017.json", pictures="train2017"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    write_pictures(root / pictures)
    return Coco(str(root), workers=0)


@pytest.mark.parametrize(
    ("file", "pictures"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2014.json", "images/train2014"),
        ("annotations/instances_train.json", "images/train"),
        ("annotations/train.json", "images"),
        ("annotations/instances_train.json", "train"),
        ("train.json", "train"),
        ("train/_annotations.coco.json", "train"),
        ("training/_annotations.coco.json", "training"),
    ],
)
def test_layouts(tmp_path, file, pictures):
    data = written(tmp_path, coco_of(), file, pictures)
    data.prepare()
    assert data.train_size == 3
    assert data._train.paths[0] == str(tmp_path / pictures / "a.jpg")


def test_places_can_be_named(tmp_path):
    data = written(tmp_path, coco_of(), "mine.json", "here/there")
    found = Coco(str(tmp_path), train_json="mine.json", train_pictures="here/there")
    found.prepare()
    assert found.train_size == 3
    with pytest.raises(InputError, match="neither train nor val"):
        data.prepare()
    with pytest.raises(InputError, match=r"train_json 'my\.json' is not a file"):
        Coco(str(tmp_path), train_json="my.json").prepare()
    with pytest.raises(InputError, match="train_pictures 'where' is not a folder"):
        Coco(str(tmp_path), train_json="mine.json", train_pictures="where").prepare()


def test_of_two_files_one_has_to_be_named(tmp_path):
    written(tmp_path, coco_of())
    data = written(tmp_path, coco_of(), "annotations/instances_train2014.json")
    with pytest.raises(InputError, match=r"holds .*2014\.json, .*2017\.json; name one as data\.train_json"):
        data.prepare()


def test_classes_are_in_the_order_of_ids_with_gaps(tmp_path):
    content = coco_of()
    content["categories"] = [{"id": 90, "name": "zebra"}, *content["categories"][::-1]]
    data = written(tmp_path, content)
    assert data.classes == ("cat", "dog", "zebra")
    assert data._train.objects(0).labels.tolist() == [2, 1]


def test_a_category_that_only_holds_the_others_is_no_class(tmp_path):
    content = coco_of()
    for each in content["categories"]:
        each["supercategory"] = "animals"
    content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
    assert written(tmp_path / "a", content).classes == ("cat", "dog")
    content["annotations"][0]["category_id"] = 0
    assert written(tmp_path / "b", content).classes == ("animals", "cat", "dog")


def test_crowds_and_what_is_ignored_do_not_count(tmp_path):
    content = coco_of()
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["ignore"] = 1
    data = written(tmp_path, content)
    assert data._train.crowd.tolist() == [True, True, False]
    assert data._train.counts.tolist() == [0, 0, 1]
    assert "train: 2 of 3 objects are crowds, which are neither learned nor counted" in data.unusual()


def test_areas_are_those_of_the_file_or_else_of_the_mask_or_the_box(tmp_path):
    content = coco_of((Sheet("a.jpg", (40, 30), (Thing("cat", (2, 3, 15, 12), RING), Thing("dog", (1, 1, 5, 4)))),))
    content["annotations"][0]["area"] = 55.5
    assert written(tmp_path / "a", content)._train.area.tolist() == [55.5, 12]
    for each in content["annotations"]:
        del each["area"]
    mask = witness.merge(witness.frPyObjects([list(RING)], 30, 40))
    assert written(tmp_path / "b", content)._train.area.tolist() == [float(witness.area(mask)), 12]
    data = written(tmp_path / "b", content)
    assert Coco(data.root, masks=False)._train.area.tolist() == [13 * 9, 12]


def test_masks_are_those_of_pycocotools(tmp_path):
    draw = np.random.default_rng(0)
    sheets = (Sheet("a.jpg", (40, 30), tuple(Thing("cat", (1, 1, 30, 20)) for _ in range(6))),)
    content = coco_of(sheets)
    drawn = np.asfortranarray(draw.random((30, 40)) < 0.5, np.uint8)
    text = witness.encode(drawn)
    flat = drawn.T.ravel()
    runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]).tolist()
    segments = [
        [list(RING)],
        [[round(x, 2) for x in draw.uniform(0, 30, 10)], [round(x, 3) for x in draw.uniform(-3, 33, 8)]],
        {"size": [30, 40], "counts": text["counts"].decode()},
        {"size": [30, 40], "counts": runs if not flat[0] else [0, *runs]},
        list(RING),
        [],
    ]
    for each, segment in zip(content["annotations"], segments, strict=True):
        each["segmentation"] = segment
    data = written(tmp_path, content)
    box = [1, 1, 30, 1, 30, 20, 1, 20]
    wanted = [
        *(witness.decode(witness.merge(witness.frPyObjects(each, 30, 40))) for each in segments[:2]),
        *(drawn, drawn),
        *(witness.decode(witness.merge(witness.frPyObjects([each], 30, 40))) for each in (list(RING), box)),
    ]
    for found, mask in zip(data._train.objects(0).masks, wanted, strict=True):
        assert found["size"] == [30, 40]
        assert np.array_equal(witness.decode(found), mask)
    assert "train changes objects without a mask, which take their box as one: 1" in data.unusual()[0]
    assert Coco(str(tmp_path), masks=False)._train.masks is None


def test_without_any_mask_there_are_none(tmp_path):
    content = coco_of()
    for each in content["annotations"]:
        each["segmentation"] = []
    data = written(tmp_path, content)
    assert data._train.masks is None
    assert not data.unusual()


def test_outlines_of_two_points_are_left_out(tmp_path):
    content = coco_of((Sheet("a.jpg", (40, 30), (Thing("cat", (2, 3, 15, 12), RING),)),))
    content["annotations"][0]["segmentation"].append([1, 1, 4, 4])
    data = written(tmp_path, content)
    assert "train leaves out outlines of fewer than three points: 1" in data.unusual()[0]
    alone = witness.merge(witness.frPyObjects([list(RING)], 30, 40))
    assert witness.decode(data._train.objects(0).masks[0]).sum() == witness.decode(alone).sum()


def test_masks_without_a_pixel_are_counted_and_their_objects_stay(tmp_path):
    things = [("a.jpg", (40, 30), tuple(Thing("cat", (2, 3, 15, 12), RING) for _ in range(7)))]
    content = coco_of(tuple(Sheet(*each) for each in things))
    segments = [
        [list(RING)],
        [[5.1, 5.1, 5.3, 5.1, 5.3, 5.3]],  # between the middles of pixels
        [[2, 3, 12, 13, 12.1, 13.1]],  # a slanted hair
        [[50, 3, 60, 3, 60, 12]],  # beside the picture
        {"size": [30, 40], "counts": [1200]},
        {"size": [30, 40], "counts": [600, 1, 599]},
        [[5.1, 5.1, 5.3, 5.1, 5.3, 5.3], list(RING)],
    ]
    for each, segment in zip(content["annotations"], segments, strict=True):
        each["segmentation"] = segment
    data = written(tmp_path, content)
    assert "train changes objects whose mask has no pixel, for which training takes the box: 4 (" in data.unusual()[0]
    masks = data._train.objects(0).masks
    assert [bool(witness.area(mask)) for mask in masks] == [True, False, False, False, False, True, True], "as written"


def test_objects_stay_with_their_pictures_in_any_order_of_the_file(tmp_path):
    content = coco_of()
    wanted = [written(tmp_path / "a", content)._train.objects(index) for index in range(3)]
    content["annotations"] = [content["annotations"][place] for place in (2, 0, 1)]
    listed = written(tmp_path / "b", dict(reversed(content.items())))._train
    for index, objects in enumerate(wanted):
        assert torch.equal(listed.objects(index).boxes, objects.boxes)
        assert torch.equal(listed.objects(index).labels, objects.labels)


def test_what_repeats_or_belongs_to_no_picture_is_counted(tmp_path):
    content = coco_of()
    content["annotations"][1]["id"] = 1
    content["annotations"].append({**content["annotations"][0], "id": 9, "image_id": 77})
    said = written(tmp_path, content).unusual()
    assert "train leaves out objects of pictures that the file does not list: 1" in said[0]
    assert "train changes annotations with the id of another, which are all taken: 1" in said[1]


def changed(place, key, value):
    content = coco_of()
    content[place][0][key] = value
    return json.dumps(content)


def without(place, key):
    content = coco_of()
    del content[place][0][key]
    return json.dumps(content)


WRONG = {
    "no JSON": ("{", r"instances_train2017\.json, line 1: no JSON that can be read: Expecting value"),
    "nothing": ("", "expected a JSON object"),
    "a list": ("[]", "expected a JSON object"),
    "cut off": (json.dumps(coco_of())[:300], "no JSON that can be read"),
    "no images": ('{"annotations": [], "categories": []}', "has no 'images'; expected COCO's images"),
    "images of none": ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
    "images that are no list": ('{"images": 3}', "expected a list under 'images'"),
    "a key twice": ('{"images": [], "images": []}', "key 'images' is set twice"),
    "nested brackets": ('{"images": ' + "[" * 100_000, "nests too deep"),
    "an image that is a word": ('{"images": ["a"]}', r"image 0 \(the first is 0\) is 'a'; expected an object"),
    "no file_name": (without("images", "file_name"), "image 0 .* has no 'file_name'"),
    "no width": (without("images", "width"), "image 0 .* has no 'width'"),
    "a width of words": (changed("images", "width", "wide"), "width 'wide'; expected a number of pixels"),
    "a negative height": (changed("images", "height", -30), "height -30; expected a number of pixels"),
    "two images of one id": (changed("images", "id", 11), "1 images have the id of another, the first is 11"),
    "an id that is text": (changed("images", "id", "10"), "has id '10'; expected a whole number"),
    "two categories of one id": (changed("categories", "id", 5), "category 1 .* has id 5, as 'cat' has"),
    "two categories of one name": (changed("categories", "name", "dog"), "categories 3 and 5 are both called 'dog'"),
    "a category without name": (changed("categories", "name", " "), "has name ' '; expected the name of a class"),
    "half a surrogate pair": (changed("categories", "name", "\ud800"), "expected the name of a class"),
    "an unknown category": (
        changed("annotations", "category_id", 4),
        "annotation 1 has category_id 4, which none of the 2 categories has; the nearest is 3, 'cat'",
    ),
    "no bbox": (without("annotations", "bbox"), r"annotation 0 \(the first is 0\) has no 'bbox'"),
    "a bbox of three": (changed("annotations", "bbox", [1, 2, 3]), r"has bbox \[1, 2, 3\]; expected \[x, y, width"),
    "a bbox of words": (changed("annotations", "bbox", ["a", "b", "c", "d"]), r"annotation 0 .* has bbox \['a'"),
    "a bbox of digits in quotes": (changed("annotations", "bbox", ["1", "2", "3", "4"]), r"has bbox \['1', '2', '3'"),
    "a bbox with keys": (changed("annotations", "bbox", {"x": 1, "y": 2, "w": 3, "h": 4}), "expected .x, y, width"),
    "an area of words": (changed("annotations", "area", "9"), "annotation 1 has area '9'; expected a number of pixels"),
    "a bbox of NaN": (changed("annotations", "bbox", [1, float("nan"), 3, 4]), "a box of numbers that are not finite"),
    "a bbox of 400 digits": (
        changed("annotations", "bbox", [10**400, 2, 3, 4]),
        "annotation 1 has a box that is not four numbers",
    ),
    "an image_id of 30 digits": (changed("annotations", "image_id", 10**30), "annotation 0"),
    "a negative area": (changed("annotations", "area", -1), "annotation 1 has an area that is none"),
    "a crowd of 7": (changed("annotations", "iscrowd", 7), "iscrowd 7, which is neither 0 nor 1"),
    "an odd outline": (
        changed("annotations", "segmentation", [[1, 2, 3, 4, 5, 6, 7]]),
        "7 numbers, which are no pairs",
    ),
    "an outline of words": (
        changed("annotations", "segmentation", [["a"] * 6]),
        r"annotation 1 has an outline \['a', 'a'",
    ),
    "an outline of nothing": (changed("annotations", "segmentation", [[0] * 6, None]), "has an outline None; expected"),
    "an outline of NaN": (changed("annotations", "segmentation", [[float("nan")] * 6]), "outline has the number nan"),
    "an outline far off": (
        changed("annotations", "segmentation", [[0, 0, 9000, 0, 0, 9]]),
        "annotation 1 has an outline that reaches 9000 pixels from the corner of a picture of 40x30",
    ),
    "run lengths that are too few": (
        changed("annotations", "segmentation", {"size": [30, 40], "counts": [1, 2]}),
        "annotation 1 has run lengths of 3 pixels where 40x30 are 1200",
    ),
    "run lengths of another picture": (
        changed("annotations", "segmentation", {"size": [3, 4], "counts": [5, 7]}),
        "annotation 1 has run lengths of 4x3; its picture is 40x30",
    ),
    "run lengths that are none": (
        changed("annotations", "segmentation", {"size": [30, 40], "counts": "?"}),
        "run lengths",
    ),
    "a segmentation of words": (changed("annotations", "segmentation", "all"), "neither outlines nor run lengths"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_named(tmp_path, wrong):
    content, said = WRONG[wrong]
    data = written(tmp_path, content)
    with pytest.raises(InputError, match=said) as caught:
        data.prepare()
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(str(tmp_path)) == 1


def test_categories_by_the_hundred_thousand_take_no_time(tmp_path):
    content = coco_of()
    content["categories"] = [{"id": n, "name": f"c{n}", "supercategory": f"c{n // 2}"} for n in range(50_000)]
    assert len(written(tmp_path, content).classes) == 50_000


def test_pictures_that_lie_on_their_side_are_taken_as_their_boxes_do(tmp_path):
    sheets = (Sheet("a.jpg", (30, 20), (Thing("cat", (1, 2, 9, 9)),)),)
    write_coco(tmp_path, {"train": sheets, "val": sheets})
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[2:9, 1:9] = 255
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        path = tmp_path / "val2017/a.jpg"
        Image.fromarray(pixels).save(path, exif=exif, quality=95)
        if turn < 5:  # of which the size says nothing
            continue
        with pytest.warns(UserWarning, match="lie on their side by EXIF and their boxes do so too"):
            shown = np.asarray(Coco(str(tmp_path)).test_picture(0))
        assert shown.shape == (20, 30, 3)
        assert np.abs(shown.astype(int) - pixels).mean() < 8


def test_a_file_that_two_images_name_and_areas_of_0_are_said(tmp_path):
    content = coco_of()
    content["images"][1] |= {"file_name": "a.jpg", "width": 40, "height": 30}
    content["annotations"][0]["area"] = 0
    data = written(tmp_path, content)
    assert data._train.counts.tolist() == [2, 0, 1]
    (said,) = data.unusual()
    assert "files that several images name, each with objects of its own: 1 (a.jpg)" in said
    assert "objects of area 0, which count as small: 1" in said


def test_classes_without_objects_are_said(tmp_path):
    content = coco_of(SHEETS[2:])
    data = written(tmp_path, content)
    assert data.unusual() == ("train has no objects of 1 of the 2 classes (dog)",)
    content["annotations"][0]["iscrowd"] = 1
    assert written(tmp_path, content).unusual()[0] == "train: none of the 1 pictures has an object that counts"


def test_a_file_in_utf_16_is_read(tmp_path):
    write_coco(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_bytes(path.read_text().encode("utf-16"))
    assert read_coco(path, masks=True).classes == ("cat", "dog")
    assert len(SHEETS) == len(read_coco(path, masks=True).names)
