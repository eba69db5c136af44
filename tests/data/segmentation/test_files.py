"""Layouts and masks, and one line for everything that is wrong with them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from tests.data.photos import truncate, write_photo
from tests.data.segmentation.mapped import dataset, labels_of, refused, write_root


def read_all(data):
    list(data.train_batches(batch_size=1, seed=0))
    list(data.test_batches(batch_size=1))


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("{0}", "{0}annot"),
        ("images/{0}", "annotations/{0}"),
        ("images/{0}", "masks/{0}"),
        ("images/{0}", "labels/{0}"),
        ("{0}/images", "{0}/masks"),
        ("{0}/images", "{0}/annotations"),
    ],
)
@pytest.mark.parametrize("long", [False, True])
def test_common_layouts_are_found(own, tmp_path, pictures, masks, long):
    for split, name in (("train", "training" if long else "train"), ("val", "validation" if long else "val")):
        for source, place in ((split, pictures), (f"{split}annot", masks)):
            shutil.copytree(own / source, tmp_path / "other" / place.format(name) / "deep")
    shutil.copy(own / "classes.txt", tmp_path / "other")
    data = dataset(tmp_path / "other")
    data.prepare()
    assert (data.train_size, data.test_size, data.classes) == (11, 5, ("red", "green", "blue"))
    assert [data.test_name(index) for index in range(5)] == ["00", "01", "02", "03", "04"]


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
@pytest.mark.parametrize(
    ("first", "options"), [(0, {}), (1, {"first_label": 1}), (1, {"first_label": 1, "ignore": []})]
)
def test_masks_may_be_gray_paletted_or_of_16_bits(tmp_path, mode, first, options):
    root = write_root(tmp_path, numbers=range(first, first + 3), mode=mode)
    data = dataset(root, **options)
    for batch in data.test_batches(batch_size=1):
        for scene in batch:
            expected = labels_of(1000 + scene.index, scene.size)
            assert np.array_equal(scene.target.numpy(), expected)
            assert np.array_equal(data.numbering.written(scene.target), expected + first)


def test_numbers_that_do_not_count_become_255_and_are_written_as_the_first_of_them(tmp_path):
    root = write_root(tmp_path)
    mask = labels_of(1000, (24, 30)).astype(np.uint16)
    mask[0, :4] = (7, 255, 300, 65535)
    Image.fromarray(mask).save(root / "valannot/00.png")
    data = dataset(root, ignore=[300, 7, 255, 65535])
    truth = data.test_target(0)
    assert truth[0, :4].tolist() == [IGNORED] * 4
    assert torch.equal(truth[1:], torch.from_numpy(labels_of(1000, (24, 30)))[1:])
    assert data.numbering.written(truth)[0, :4].tolist() == [7] * 4
    one = dataset(root, first_label=1, ignore=[])
    assert one.numbering.written(truth)[0, 0] == 0


def test_what_is_absent_is_named_with_what_was_looked_for(own, tmp_path):
    refused("root '.*/none' is not a folder", dataset(tmp_path / "none").prepare)
    (tmp_path / "empty").mkdir()
    refused(
        r"empty has neither train nor val pictures with masks \(for train: train with trainannot, train_masks or "
        r"train_labels, images/train with annotations, masks or labels/train, train/images with "
        r"train/\(annotations, masks or labels\); for val: ",
        dataset(tmp_path / "empty").prepare,
    )
    shutil.rmtree(own / "valannot")
    data = dataset(own)
    data.prepare()
    refused("own has no val pictures with masks; looked for val with valannot", lambda: data.test_batches(batch_size=1))


def test_a_picture_without_a_mask_and_a_mask_without_a_picture(own):
    (own / "trainannot/03.png").unlink()
    (own / "trainannot/07.png").unlink()
    refused(
        r"2 of the 11 pictures in .*/train have no mask, the first is 03.png; expected .*/trainannot/03.png",
        dataset(own).prepare,
    )
    (own / "train/03.png").unlink()
    (own / "train/07.png").unlink()
    (own / "train/01.png").unlink()
    refused(
        r"1 of the 9 masks in .*/trainannot have no picture, the first is 01.png; expected .*/train/01.jpg or another",
        dataset(own).prepare,
    )


def test_two_pictures_of_one_name_and_an_empty_split(own):
    write_photo(own / "val/01.jpg", 0)
    refused(r"/val holds both 01.jpg and 01.png; expected one file of that name", dataset(own).prepare)
    for path in (own / "val").iterdir():
        path.unlink()
    refused(r"/val holds no pictures \(.jpg .jpeg .png", dataset(own).prepare)


def test_sizes_that_differ_surface_when_the_sample_is_read(own):
    Image.fromarray(labels_of(0, (24, 31))).save(own / "trainannot/00.png")
    data = dataset(own)
    data.prepare()
    match = r"mask .*/trainannot/00.png is 31x24; expected 30x24 as its picture .*/train/00.png"
    refused(match, lambda: read_all(data))
    refused(match, lambda: list(dataset(own, workers=1).train_batches(batch_size=1, seed=0)))


@pytest.mark.parametrize("number", [3, 200, 254])
def test_a_label_beyond_the_classes(own, number):
    mask = labels_of(1001, (30, 25))
    mask[4, 2] = number
    Image.fromarray(mask).save(own / "valannot/01.png")
    refused(
        rf"mask .*/valannot/01.png has {number} in row 4, column 2; expected the numbers 0 to 2 of the classes, and "
        "255 for what does not count",
        lambda: read_all(dataset(own)),
    )


@pytest.mark.parametrize("number", [65535, 70000, -1, -65536 + 1])
def test_a_wide_label_beyond_the_classes(own, number):
    mask = labels_of(1001, (30, 25)).astype(np.int32)
    mask[4, 2] = number
    Image.fromarray(mask).save(own / "valannot/01.tif")
    (own / "valannot/01.png").unlink()
    refused(rf"mask .*/01.tif has {number} in row 4, column 2", lambda: read_all(dataset(own)))


def test_files_that_cannot_be_read(own):
    data = dataset(own)
    data.prepare()
    truncate(own / "valannot/01.png")
    refused(r"cannot read mask .*/valannot/01.png \(", lambda: list(data.test_batches(batch_size=1)))
    (own / "valannot/01.png").unlink()
    refused(r"cannot read mask .*/valannot/01.png \(it is missing\)", lambda: list(data.test_batches(batch_size=1)))
    Image.fromarray(labels_of(1001, (30, 25))).save(own / "valannot/01.png")
    truncate(own / "val/00.png")
    refused(r"cannot read .*/val/00.png \(", lambda: list(data.test_batches(batch_size=1)))
    (own / "train/05.png").write_text("no picture")
    refused(r"cannot read .*/train/05.png \(cannot identify", lambda: data.train_batches(batch_size=1, seed=0))


# Cityscapes.


def write_city(root, split, kind, numbers, city="aachen", name="aachen_000000_000019"):
    pictures, masks = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    for folder in (pictures, masks):
        folder.mkdir(parents=True, exist_ok=True)
    write_photo(pictures / f"{name}_leftImg8bit.png", 0, width=len(numbers), height=2)
    Image.fromarray(np.array([numbers] * 2, np.uint8)).save(masks / f"{name}_gtFine_{kind}.png")
    Image.fromarray(np.zeros((2, len(numbers), 3), np.uint8)).save(masks / f"{name}_gtFine_color.png")


def test_cityscapes_masks_by_official_numbers_and_by_those_of_the_evaluated_classes(tmp_path):
    write_city(tmp_path, "train", "labelIds", range(34))
    write_city(tmp_path, "val", "labelIds", [255, *range(33)], city="ulm", name="ulm_000000_000001")
    write_city(tmp_path, "val", "labelTrainIds", [255, *range(19)] + [0] * 14, city="ulm", name="ulm_000000_000001")
    data = create_dataset("cityscapes", root=str(tmp_path), workers=0)
    data.prepare()
    assert (data.train_size, data.test_size, data.num_classes) == (1, 1, 19)
    assert data.test_name(0) == "ulm_000000_000001_leftImg8bit"
    truth = data.test_target(0)[0].tolist()
    by_number = dict(zip([255, *range(33)], truth, strict=True))
    assert (by_number[7], by_number[11], by_number[32]) == (0, 2, 17)
    assert [number for number in range(33) if by_number[number] == IGNORED] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        9,
        10,
        14,
        15,
        16,
        18,
        29,
        30,
    ]
    assert by_number[255] == IGNORED
    evaluated = create_dataset("cityscapes", root=str(tmp_path), workers=0, masks="labelTrainIds")
    refused(
        r"1 of the 1 pictures in .*/train have no mask, the first is aachen/aachen_000000_000019_leftImg8bit.png; "
        r"expected .*/gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png",
        evaluated.prepare,
    )
    shutil.rmtree(tmp_path / "gtFine/train")
    assert evaluated.test_target(0)[0, :20].tolist() == [IGNORED, *range(19)]
    refused(
        "neither train nor val pictures with masks .for train: leftImg8bit/train with gtFine/train",
        create_dataset("cityscapes", root=str(tmp_path / "gtFine")).prepare,
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"split": "train"}, "split must be 'val' or 'test', got 'train'"),
        ({"test_resize": "cubic"}, "test_resize must be 'antialiased' or 'plain', got 'cubic'"),
        ({"colors": "bgr"}, "colors must be 'rgb' or 'published', got 'bgr'"),
        ({"short_sides": [600], "longest": 500}, "short_sides has 600, which longest 500 never allows; the nearest"),
        ({"test_sides": [0]}, "test_sides must be at least 1, got 0"),
        ({"mean": [0.5, 0.5]}, "mean needs one number per channel, 3, got 2"),
        ({"std": [0.5, -1, 0.5]}, "std must be positive numbers, got -1"),
        ({"interpolation": "cubic"}, "interpolation 'cubic' is unknown; did you mean 'bicubic'"),
        (
            {"colors": "published", "std": [0.5] * 3},
            "colors 'published' has its own mean and deviation; leave mean and",
        ),
        (
            {"test_resize": "plain", "interpolation": "bicubic"},
            "test_resize 'plain' is bilinear, which 'bicubic' is not; set interpolation to null",
        ),
        ({"longest": 0}, "longest must be at least 1, got 0"),
        ({"scale": [2.0, 0.5]}, "scale must be two factors above 0, the smaller one first"),
        ({"scale": [0.0, 1.0]}, "scale must be two factors above 0"),
        ({"scale": [1.0]}, "scale must be two factors above 0"),
        (
            {"crop": [30, 40]},
            r"crop \[30, 40\] must be multiples of 8, as option multiple says; the nearest is \[32, 40\]",
        ),
        ({"crop": [32]}, "crop must be a height and a width of at least 1"),
        ({"color_jitter": 2.0}, "color_jitter must be between 0 and 1, got 2.0"),
        ({"label_stride": 0}, "label_stride must be at least 1"),
        ({"label_stride": 3}, "multiple 8 is no multiple of label_stride 3; the nearest is 9"),
        ({"multiple": 0}, "multiple must be at least 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"first_label": 2}, "first_label must be 0 or 1, got 2"),
        ({"ignore": [70000]}, "ignore must be between 0 and 65535, got 70000"),
    ],
)
def test_options_out_of_range(options, match):
    refused(match, lambda: create_dataset("masks", root="nowhere", **options))


def test_cityscapes_has_masks_of_two_kinds():
    refused(
        "masks must be 'labelIds' or 'labelTrainIds', got 'ids'",
        lambda: create_dataset("cityscapes", root="a", masks="ids"),
    )
