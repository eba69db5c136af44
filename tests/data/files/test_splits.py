import shutil

import pytest

from switchnorm.data import Folder
from switchnorm.errors import InputError
from tests.data.photos import write_lists, write_photo


def labels(folder, split):
    listing = getattr(folder, f"_{split}")
    names = [listing.paths[place].split("/")[-2:] for place in range(len(listing))]
    return {"/".join(name): label for name, label in zip(names, listing.labels.tolist(), strict=True)}


def refused(root, message, **options):
    folder = Folder(str(root), **options)
    with pytest.raises(InputError, match=message) as caught:
        folder.prepare()
    assert "\n" not in str(caught.value)


EXPECTED = {f"{name}/{number}.jpg": label for label, name in enumerate(("cat", "dog", "fox")) for number in range(3)}


@pytest.mark.parametrize("layout", ["folders", "lists", "meta", "named", "elsewhere", "train list", "val list"])
def test_every_layout_gives_the_same_pictures_labels_and_names(tree, tmp_path, layout):
    options = {}
    if layout != "folders":
        write_lists(tree, {"meta": tree / "meta", "elsewhere": tmp_path / "lists"}.get(layout))
    if layout == "named":
        for split in ("train", "val"):
            (tree / f"{split}.txt").rename(tree / f"my {split} list")
            options[f"{split}_list"] = f"my {split} list"
    if layout == "elsewhere":
        options = {f"{split}_list": str(tmp_path / "lists" / f"{split}.txt") for split in ("train", "val")}
    if layout == "train list":
        (tree / "val.txt").unlink()
    if layout == "val list":
        (tree / "train.txt").unlink()
    folder = Folder(str(tree), **options)
    assert folder.classes == ("cat", "dog", "fox")
    assert labels(folder, "test") == EXPECTED
    assert labels(folder, "train") == EXPECTED | {f"{name}/3.jpg": place for place, name in enumerate(folder.classes)}
    assert folder.train_size == 12


def test_folders_of_other_names_inside_and_outside(tree, tmp_path):
    (tree / "train").rename(tree / "ILSVRC2012_img_train")
    (tree / "val").rename(tmp_path / "outside")
    folder = Folder(str(tree), train_folder="ILSVRC2012_img_train", val_folder=str(tmp_path / "outside"))
    assert (folder.train_size, len(folder._test)) == (12, 9)


def test_a_flat_validation_folder_with_its_list(tree):
    for path in sorted((tree / "val").rglob("*.jpg")):
        path.rename(tree / "val" / f"{path.parent.name}_{path.name}")
    (tree / "val.txt").write_text("fox_1.jpg 2\ncat_0.jpg 0\n")
    folder = Folder(str(tree))
    assert folder.classes == ("cat", "dog", "fox")
    assert folder._test.labels.tolist() == [2, 0]


def test_validation_takes_the_numbers_of_training(tree):
    shutil.rmtree(tree / "val/cat")
    assert set(labels(Folder(str(tree)), "test").values()) == {1, 2}


def test_classes_without_names_are_called_by_their_numbers(tree):
    (tree / "train.txt").write_text("cat/0.jpg 0\ndog/0.jpg 0\nfox/0.jpg 1\n")
    shutil.rmtree(tree / "val")
    assert Folder(str(tree)).classes == ("0", "1")


@pytest.mark.parametrize(("gone", "asked"), [("train", "train"), ("val", "test")])
def test_one_split_is_enough_until_the_other_is_asked_for(tree, gone, asked):
    shutil.rmtree(tree / gone)
    folder = Folder(str(tree))
    folder.prepare()
    assert folder.classes == ("cat", "dog", "fox")
    options = {"train": {"seed": 0}, "test": {}}[asked]
    with pytest.raises(InputError, match=rf"{tree}/{gone} is missing, and so is a list {gone}.txt in {tree}"):
        getattr(folder, f"{asked}_batches")(batch_size=2, **options)


def test_a_root_without_anything_is_refused(tmp_path):
    refused(tmp_path, "has neither folders 'train' and 'val' nor lists train.txt and val.txt")
    (tmp_path / "Train").mkdir()
    refused(tmp_path, "val.txt; it holds Train: say which are the splits with train_folder and val_folder")
    refused(tmp_path / "gone", "root '.*gone' is not a folder")


def test_a_named_list_that_is_not_there_is_refused(tree):
    refused(tree, "val_list 'v.txt' is not a file, neither here nor in", val_list="v.txt")


def test_a_class_that_training_lacks_is_answered_with_the_nearest(tree):
    (tree / "val/fox").rename(tree / "val/foxes")
    refused(tree, "class of .*/val 'foxes' is unknown; did you mean 'fox'")


def test_a_class_without_training_pictures_is_named(tree):
    (tree / "train/dot").mkdir()
    refused(tree, r"/train has no picture of class 2 \(dot\), of the classes 0 to 3$")
    (tree / "train/dot/a.heic").write_bytes(b"x")
    refused(tree, r"/train has no picture of class 2 .* 3; it leaves out files of type .heic: 1 \(.*dot/a.heic\)")


@pytest.mark.parametrize("alone", [False, True])
def test_a_gap_in_the_labels_of_a_list_is_named(tree, alone):
    name = "val" if alone else "train"
    (tree / f"{name}.txt").write_text("cat/0.jpg 0\nfox/0.jpg 2\n")
    if alone:
        shutil.rmtree(tree / "train")
    refused(tree, rf"{name}.txt has no picture of class 1, of the classes 0 to 2")


def test_a_list_counted_from_1_is_a_gap(tree):
    (tree / "train.txt").write_text("cat/0.jpg 1\ndog/0.jpg 2\n")
    refused(tree, "train.txt has no picture of class 0")


def test_a_validation_label_beyond_the_classes_is_named(tree):
    (tree / "val.txt").write_text("cat/0.jpg 0\nfox/0.jpg 3\n")
    refused(tree, "val.txt has label 3; labels run from 0 to 2")


def test_labels_that_contradict_the_folders_are_named(tree):
    (tree / "val.txt").write_text("cat/0.jpg 1\nfox/0.jpg 2\n")
    refused(tree, "val.txt gives 'cat' label 1, but .*/train 0")


def test_folders_against_a_list_without_names_are_refused(tree):
    for path in sorted((tree / "train").rglob("*.jpg")):
        path.rename(tree / "train" / f"{path.parent.name}_{path.name}")
    (tree / "train.txt").write_text("cat_0.jpg 0\ndog_0.jpg 1\nfox_0.jpg 2\n")
    refused(tree, "/val has class folders, but .*train.txt names none; give val_list too")


@pytest.mark.parametrize("on_damaged", ["stop", "skip"])
def test_missing_pictures_show_at_once_unless_they_are_skipped(tree, on_damaged):
    write_lists(tree)
    (tree / "val/dog/1.jpg").unlink()
    if on_damaged == "stop":
        refused(tree, r"val.txt: 1 of its 9 pictures are missing, the first is .*val/dog/1.jpg")
    else:
        Folder(str(tree), on_damaged="skip").prepare()


def test_the_home_folder_is_understood(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree.parent))
    assert Folder("~/photos").train_size == 12


def test_reading_happens_once(tree):
    folder = Folder(str(tree))
    folder.prepare()
    write_photo(tree / "train/new/0.jpg", 0)
    assert folder.num_classes == 3
