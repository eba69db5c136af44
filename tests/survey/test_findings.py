"""What is said about data: each sentence by data that has the fault."""

import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from switchnorm.data import Folder, Masks
from switchnorm.survey.whole import look_at
from tests.data.photos import photo, truncate, write_lists
from tests.training.scenes import VOID


def said(dataset):
    dataset.prepare()
    return [(each.wrong, each.text) for each in look_at(dataset).findings]


def folder(root, **options):
    return Folder(str(root), **{"size": 16, "resize": 20, **options})


def masks(root, **options):
    return Masks(str(root), **{"ignore": [VOID], **options})


def change(path, number, where=...):
    numbers = np.array(Image.open(path))
    numbers[where] = number
    Image.fromarray(numbers).save(path)


def test_nothing_about_data_as_it_should_be(photos, scenes):
    assert said(folder(photos)) == []
    assert said(masks(scenes)) == []


def test_broken_files_are_named_and_counted(photos):
    for number in range(4):
        truncate(photos / f"train/cat/{number}.jpg")
    (found,) = said(folder(photos))
    assert found[0]
    assert found[1].startswith("train: 4 of 12 pictures cannot be read: cat/0.jpg, cat/1.jpg, cat/2.jpg and 1 more (")
    assert [wrong for wrong, _ in said(folder(photos, on_damaged="skip"))] == [False]


@pytest.mark.parametrize("split", ["train", "val"])
def test_none_is_too_few_to_go_on_with(photos, split):
    for path in (photos / split).rglob("*.jpg"):
        truncate(path)
    ((wrong, text),) = said(folder(photos, on_damaged="skip"))
    assert wrong
    assert "pictures cannot be read" in text


def test_missing_files_of_a_list(photos):
    write_lists(photos)
    (photos / "train/cat/0.jpg").unlink()
    assert said(folder(photos, on_damaged="skip")) == [(False, "train: 1 of 12 pictures is missing: cat/0.jpg")]


def test_duplicates_within_across_and_under_two_labels(photos):
    shutil.copy(photos / "train/dog/0.jpg", photos / "train/dog/8.jpg")
    shutil.copy(photos / "train/dog/1.jpg", photos / "train/fox/9.jpg")
    shutil.copy(photos / "train/dog/2.jpg", photos / "val/dog/9.jpg")
    assert said(folder(photos)) == [
        (False, "val has 1 picture of train byte for byte: val dog/9.jpg is train dog/2.jpg"),
        (False, "1 picture is there again with other labels: train fox/9.jpg is train dog/1.jpg"),
        (False, "train: 2 pictures are there again: train dog/8.jpg is train dog/0.jpg, and 1 more"),
    ]


def test_a_picture_that_a_list_names_twice(photos):
    write_lists(photos)
    with open(photos / "train.txt", "a") as file:
        file.write("dog/1.jpg 1\n")
    assert said(folder(photos)) == [
        (False, "train: 1 picture is there again: train dog/1.jpg is listed twice"),
    ]


@pytest.mark.parametrize("gone", ["train", "val"])
def test_a_split_that_training_needs(photos, gone):
    shutil.rmtree(photos / gone)
    ((wrong, text),) = said(folder(photos))
    assert wrong
    assert text == f"{photos}/{gone} is missing, and so is a list {gone}.txt in {photos}"


def test_what_is_the_same_for_all_is_said_once(photos):
    for path in photos.rglob("*.jpg"):
        tifffile.imwrite(path.with_suffix(".tif"), np.zeros((20, 30, 5), np.uint8), planarconfig="contig")
        path.unlink()
    first, *_ = said(folder(photos))
    assert first[1].startswith(
        "train: 12 of 12 pictures do not fit the configuration: cat/0.tif, cat/1.tif, cat/2.tif and 9 more (has 5"
    )
    assert first[1].count("has 5 bands") == 1


def test_the_same_picture_with_two_masks(scenes):
    shutil.copy(scenes / "train/train01.png", scenes / "train/train02.png")
    assert said(masks(scenes))[0] == (
        False,
        "1 picture is there again with other masks: train train02.png is train train01.png",
    )


def test_pictures_of_other_kinds(photos):
    exif = Image.Exif()
    exif[0x0112] = 3
    photo(60).save(photos / "train/cat/e.jpg", exif=exif)
    clear = photo(61).convert("RGBA")
    clear.putalpha(99)
    clear.save(photos / "train/cat/a.png")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 6).save(photos / "train/cat/d.png")
    found = said(folder(photos, resize=22))
    assert [wrong for wrong, _ in found] == [False] * 4
    deep, alpha, turned, enlarged = (text for _, text in found)
    assert alpha.startswith("train: 1 of 15 pictures has transparent pixels")
    assert deep.startswith("pictures have more than 8 bits: 0 becomes black and 4095 white")
    assert turned == "train: 1 of 15 pictures is stored turned or mirrored, as EXIF says"
    assert enlarged == "train: 1 of 15 are enlarged: their shorter side is below 22"


def test_what_the_dataset_says_of_itself_is_among_it(photos):
    shutil.rmtree(photos / "val/fox")
    (photos / "train/dog/notes.txt").write_text("x")
    (photos / "train/.hidden").mkdir()
    assert said(folder(photos)) == [(False, line) for line in folder(photos).unusual()]
    assert "val has no picture of class 'fox'" in folder(photos).unusual()


def test_a_class_that_never_occurs_while_void_does(scenes):
    for path in (scenes / "trainannot").iterdir():
        change(path, VOID, np.array(Image.open(path)) == 2)
    assert said(masks(scenes)) == [
        (
            False,
            "train: no pixel of box in 6 pictures, while 6 have pixels that do not count; is the number of these a "
            "class?",
        )
    ]


def test_masks_in_which_nothing_counts(scenes):
    for path in (scenes / "trainannot").iterdir():
        change(path, VOID)
    ((wrong, text),) = said(masks(scenes))
    assert wrong
    assert text.startswith("train: none of the 6 masks has a pixel of a class, all are numbers that do not count; say")


def test_much_that_does_not_count(scenes):
    for path in (scenes / "trainannot").iterdir():
        change(path, VOID, np.s_[:, :40])
        change(path, 2, np.s_[-1:])
    assert any("% of all pixels do not count" in text for _, text in said(masks(scenes)))


@pytest.mark.parametrize("split", ["train", "val"])
def test_numbers_that_mean_nothing(scenes, split):
    change(scenes / f"{split}annot/{split}01.png", 77, np.s_[0, 0])
    total = {"train": 6, "val": 3}[split]
    ((wrong, text),) = said(masks(scenes))
    assert wrong
    assert text.startswith(f"{split}: 1 of {total} pictures has a mask that means nothing: {split}01.png (mask ")
    assert "has 77 in row 0, column 0" in text
