"""Layouts, lists and masks, and one line for everything that is wrong with them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from switchnorm.errors import InputError
from tests.data.photos import truncate, write_photo
from tests.data.segmentation.mapped import dataset, labels_of, write_odgt, write_root


def refused(match, call):
    with pytest.raises(InputError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    del caught  # which holds the loader, and this its processes


def read_all(data):
    list(data.train_batches(batch_size=1, seed=0))
    list(data.test_batches(batch_size=1))


@pytest.fixture
def own(tmp_path):
    """As `root`, for tests that change it."""
    return write_root(tmp_path / "own")


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
        r"empty has neither train nor val pictures with masks \(for train: train with trainannot, images/train with "
        r"annotations, masks or labels/train, train/images with train/\(annotations, masks or labels\); for val: ",
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_several_channels(own, mode):
    Image.fromarray(labels_of(0)).convert(mode).save(own / "trainannot/00.png")
    refused(
        rf"mask .*/trainannot/00.png is a picture of mode {mode}; expected one number per pixel: the numbers 0 to 2",
        lambda: read_all(dataset(own)),
    )


def test_files_that_cannot_be_read(own):
    data = dataset(own)
    data.prepare()
    truncate(own / "valannot/01.png")
    refused(r"cannot read mask .*/valannot/01.png \(", lambda: list(data.test_batches(batch_size=1)))
    (own / "valannot/01.png").unlink()
    refused(r"cannot read mask .*/valannot/01.png \(it is missing\)", lambda: list(data.test_batches(batch_size=1)))
    truncate(own / "val/00.png")
    refused(r"cannot read .*/val/00.png \(", lambda: list(data.test_batches(batch_size=1)))
    (own / "train/05.png").write_text("no picture")
    refused(r"cannot read .*/train/05.png \(cannot identify", lambda: data.train_batches(batch_size=1, seed=0))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "classes.txt is missing; expected the name of a class in each line"),
        ("", "classes.txt names 0 classes; expected 1 to 255, one in each line"),
        ("\n".join(map(str, range(256))), "classes.txt names 256 classes; expected 1 to 255"),
        ("a\nb\na\n", "classes.txt: line 3 repeats 'a'; expected the name of another class"),
        ("a\n\nb\n", "classes.txt: line 2 is empty"),
    ],
)
def test_classes_that_are_not_named(own, text, match):
    if text is None:
        (own / "classes.txt").unlink()
    else:
        (own / "classes.txt").write_text(text)
    refused(match, dataset(own).prepare)


def test_a_class_cannot_be_ignored(own):
    refused(
        "ignore has 2, which is class 'blue'; leave it out, or take it from classes", dataset(own, ignore=[2]).prepare
    )


# Lists as ADE20K's.


@pytest.fixture
def ade(tmp_path):
    """Five pictures with masks, listed."""
    root = tmp_path / "ade"
    write_root(root, train=[], numbers=(1, 75, 150))
    sizes = [Image.open(path).size for path in sorted((root / "val").iterdir())]
    entries = [
        {
            "fpath_img": f"val/{place:02d}.png",
            "fpath_segm": f"valannot/{place:02d}.png",
            "width": width,
            "height": height,
        }
        for place, (width, height) in enumerate(sizes)
    ]
    write_odgt(root / "validation.odgt", entries)
    return root, entries


def ade20k(root, **options):
    return create_dataset("ade20k", root=str(root), workers=0, **options)


@pytest.mark.parametrize("prefix", ["", "ade/"])
@pytest.mark.parametrize("where", ["ade/validation.odgt", "lists/mine.odgt", "mine.odgt"])
def test_a_listed_path_counts_from_the_root_the_list_or_the_folder_above(ade, tmp_path, prefix, where):
    root, entries = ade
    (tmp_path / "lists").mkdir()
    (root / "validation.odgt").unlink()
    for entry in entries:
        entry.update({key: prefix + entry[key] for key in ("fpath_img", "fpath_segm")})
    write_odgt(tmp_path / where, entries)
    options = {} if "ade/" in where else {"val_list": str(tmp_path / where)}
    data = ade20k(root, **options)
    data.prepare()
    assert data.test_size == 5
    assert set(data.test_target(2).unique().tolist()) == {0, 74, 149}
    assert data._test.sizes[3].tolist() == [24, 37]


def test_the_training_list_gives_the_sizes_and_folders_do_too(ade, tmp_path):
    root, _ = ade
    (root / "validation.odgt").rename(root / "training.odgt")
    options = {"short_sides": [16], "longest": 24, "test_sides": []}
    listed = ade20k(root, **options)
    for source, place in (("val", "images/training"), ("valannot", "annotations/training")):
        shutil.copytree(root / source, tmp_path / "folders" / place)
    in_folders = ade20k(tmp_path / "folders", **options)
    assert listed.shape == in_folders.shape == (24, 24)
    for one, other in zip(*(data.train_batches(batch_size=2, seed=3) for data in (listed, in_folders)), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
        assert set(one[1].unique().tolist()) <= {0, 74, 149, IGNORED}


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("val/00.png 3", r"validation.odgt: line 6 is no JSON object, got 'val/00.png 3'; expected {\"fpath_img\": "),
        ("[1, 2]", r"line 6 is no JSON object, got '\[1, 2\]'"),
        ('{"fpath_img": "val/00.png", "width": 3, "height": 3}', "line 6 lacks 'fpath_segm'; expected"),
        ('{"fpath_img": "a", "fpath_segm": "b", "width": 3}', "line 6 lacks 'height'"),
        ('{"fpath_img": "a", "fpath_segm": "b", "width": "3", "height": 3}', "line 6 has width '3'; expected"),
        ('{"fpath_img": "a", "fpath_segm": "b", "width": 0, "height": 3}', "line 6 has width 0"),
        ('{"fpath_img": "", "fpath_segm": "b", "width": 2, "height": 3}', "line 6 has fpath_img ''"),
    ],
)
def test_lines_that_do_not_say_what_they_must(ade, line, match):
    root, _ = ade
    with (root / "validation.odgt").open("a") as file:
        file.write(line + "\n")
    refused(match, ade20k(root).prepare)


def test_lists_that_do_not_fit_their_files(ade):
    root, entries = ade
    for name, missing in (("val", "val/01.png"), ("valannot", "valannot/01.png")):
        (root / name / "01.png").rename(root / "away.png")
        refused(
            rf"validation.odgt: 1 of its 10 pictures and masks are missing, the first is .*/{missing}",
            ade20k(root).prepare,
        )
        (root / "away.png").rename(root / name / "01.png")
    entries[2]["width"] += 1
    write_odgt(root / "validation.odgt", entries)
    data = ade20k(root)
    data.prepare()
    match = r"picture .*/val/02.png is 20x20; expected 21x20 as .*/validation.odgt states"
    refused(match, lambda: list(data.test_batches(batch_size=1)))
    (root / "validation.odgt").write_text("\n")
    refused("validation.odgt is empty; expected {", ade20k(root).prepare)
    (root / "validation.odgt").write_bytes(b"\xff\xfe")
    refused("validation.odgt cannot be read as a list of pictures", ade20k(root).prepare)
    refused(r"val_list 'none.odgt' is not a file, neither here nor in", ade20k(root, val_list="none.odgt").prepare)


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


def test_a_list_of_a_split_that_is_not_evaluated():
    refused(
        "val_list has no effect with split 'test'; set split to 'val' or val_list to null",
        lambda: create_dataset("ade20k", root="nowhere", split="test", val_list="a.odgt"),
    )


def test_cityscapes_has_masks_of_two_kinds():
    refused(
        "masks must be 'labelIds' or 'labelTrainIds', got 'ids'",
        lambda: create_dataset("cityscapes", root="a", masks="ids"),
    )
