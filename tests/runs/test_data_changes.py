"""By what a run knows its data again, and what it says of data that has changed."""

import json
import shutil

import pytest
import torch

from switchnorm.data import Coco, Digits, Folder, Masks
from switchnorm.data.fingerprint import MARKED, split_fingerprint
from switchnorm.errors import InputError
from switchnorm.runs.data_changes import data_changes
from tests.data.detection.formats import write_coco
from tests.data.photos import folder, write_lists, write_tree
from tests.training.scenes import write_scenes


def test_the_place_of_the_data_changes_nothing(tmp_path):
    here = write_tree(tmp_path / "here")
    before = folder(here).fingerprint()
    assert before["train"]["count"] == 12
    assert [part.split(":")[0] for part in before["test"]["classes"].split()] == ["3", "3", "3"]
    for path in here.rglob("*.jpg"):
        path.write_bytes(b"")  # nothing is opened
    assert folder(here.rename(tmp_path / "there")).fingerprint() == before
    split = folder(tmp_path / "there", train_folder=str(shutil.move(tmp_path / "there/train", tmp_path / "apart")))
    assert split.fingerprint() == before
    assert data_changes(before, split, "it") == []


def test_lists_and_masks_have_one_too(tmp_path):
    tree = write_lists(write_tree(tmp_path / "photos"))
    listed = folder(tree)
    before = listed.fingerprint()
    moved = tmp_path / "moved"
    shutil.copytree(tree, moved)
    for name in ("train.txt", "val.txt"):
        (moved / name).rename(tmp_path / name)
    again = folder(moved, train_list=str(tmp_path / "train.txt"), val_list=str(tmp_path / "val.txt"))
    assert again.fingerprint() == before
    scenes = Masks(str(write_scenes(tmp_path / "scenes", {"train": 3, "val": 2})), ignore=[9])
    found = scenes.fingerprint()
    assert (found["train"]["count"], found["test"]["count"]) == (3, 2)
    (tmp_path / "scenes/valannot/val00.png").rename(tmp_path / "scenes/valannot/new.png")
    (tmp_path / "scenes/val/val00.png").rename(tmp_path / "scenes/val/new.png")
    changed = Masks(str(tmp_path / "scenes"), ignore=[9])
    assert data_changes(found, changed, "it") == ["other test pictures, as many as before (2), first: new"]


def test_pictures_in_memory_are_known_by_their_labels():
    before = Digits().fingerprint()
    assert (before["train"]["count"], before["test"]["count"]) == (1438, 359)
    assert Digits(augment=True).fingerprint() == before

    class Fewer(Digits):
        def load(self):
            train, test = super().load()
            return type(train)(train.images[:-1], train.labels[:-1], train.mean, train.std), test

    last = int(Digits().samples[0].labels[-1])
    assert data_changes(before, Fewer(), "it") == [f"1 training picture fewer (1438 -> 1437) in {last}"]


def test_an_order_is_known_too(tmp_path):
    data = folder(write_lists(write_tree(tmp_path / "photos")))
    before = data.fingerprint()
    file = tmp_path / "photos/train.txt"
    file.write_text("\n".join(reversed(file.read_text().split("\n"))))
    (phrase,) = data_changes(before, Folder(str(tmp_path / "photos")), "it")
    assert phrase.startswith("other training pictures, as many as before (12) in cat, dog, fox") or phrase == (
        "training pictures in another order"
    )


def test_many_samples_have_no_marks():
    names = [f"{number}.jpg" for number in range(MARKED + 1)]
    labels = torch.arange(MARKED + 1).remainder(2).tolist()
    assert "marks" not in split_fingerprint(names, labels, 2)
    assert len(split_fingerprint(names[1:], labels[1:], 2)["marks"]) == 4 * MARKED


@pytest.mark.parametrize("before", [None, 3, {"train": 3}, {"train": {}}, {"test": {"count": 1, "marks": []}}])
def test_what_is_no_fingerprint(tmp_path, before):
    with pytest.raises(InputError, match="it is damaged"):
        data_changes(before, Digits(), "it")


def test_objects_that_changed_are_said(tmp_path):
    write_coco(tmp_path)
    before = Coco(str(tmp_path)).fingerprint()
    assert data_changes(before, Coco(str(tmp_path)), "it") == []
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(content))
    assert data_changes(before, Coco(str(tmp_path)), "it") == ["other objects on the training pictures"]
    content["annotations"].clear()
    path.write_text(json.dumps(content))
    assert data_changes(before, Coco(str(tmp_path)), "it") == ["other objects on the training pictures"]
    for part in before.values():
        del part["objects"]  # of a run that is older
    assert data_changes(before, Coco(str(tmp_path)), "it") == []
