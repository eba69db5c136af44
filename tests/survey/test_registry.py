"""Every registered dataset can be looked at, and anybody's."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.config.task_spec import find_task, loaded
from switchnorm.data import Dataset, Digits, create_dataset, dataset_classes
from switchnorm.survey.batches import look_at_batches
from switchnorm.survey.page import write_page
from switchnorm.survey.quick import quick_look
from switchnorm.survey.whole import look_at
from tests.data.conftest import OfficialFiles
from tests.data.detection.formats import write_coco, write_voc, write_yolo
from tests.data.photos import jpeg_bytes, photo, write_tree
from tests.training.scenes import write_scenes


def cifar(root, classes):
    OfficialFiles(root, classes).binary()
    return {"root": str(root)}


def imagenet(root):
    content = jpeg_bytes()
    for split in ("train", "val"):
        for number in range(1000):
            folder = root / split / f"n{number:08d}"
            folder.mkdir(parents=True)
            (folder / "a.jpg").write_bytes(content)
    return {"root": str(root), "size": 8, "resize": 10, "workers": 0}


def pairs(root, folders, suffixes=(".png", ".png"), number=1):
    """Two pictures and masks of two numbers in each of the folders, "pictures:masks"."""
    for each in folders:
        for folder, suffix, mask in zip(each.split(":"), suffixes, (False, True), strict=True):
            (root / folder).mkdir(parents=True)
            for name in range(2):
                picture = (
                    Image.fromarray(np.repeat(np.uint8([number, number + 1]), 360).reshape(24, 30))
                    if mask
                    else photo(hash(each) % 99 + name)
                )
                picture.save(root / folder / f"{name}{suffix}")
    return {"root": str(root), "workers": 0}


#: The options of each dataset, with data for them below a folder.
MAKE = {
    "digits": lambda root: {},
    "cifar10": lambda root: cifar(root, 10),
    "cifar100": lambda root: cifar(root, 100),
    "imagenet": imagenet,
    "folder": lambda root: {"root": str(write_tree(root)), "size": 16, "resize": 20, "workers": 0},
    "masks": lambda root: {
        "root": str(write_scenes(root / "scenes", {"train": 4, "val": 2})),
        "ignore": [9],
        "workers": 0,
    },
    "camvid": lambda root: pairs(root, ("train:trainannot", "val:valannot")),
    "ade20k": lambda root: pairs(root, [f"images/{split}:annotations/{split}" for split in ("training", "validation")]),
    "cityscapes": lambda root: pairs(
        root,
        [f"leftImg8bit/{split}/bonn:gtFine/{split}/bonn" for split in ("train", "val")],
        ("_leftImg8bit.png", "_gtFine_labelIds.png"),
        number=7,
    ),
    **{
        name: lambda root, write=write: {
            **{"root": str(write(root / "objects")), "workers": 0},
            **{"short_sides": [32], "test_side": 32, "longest": None},
        }
        for name, write in (("coco", write_coco), ("voc", write_voc), ("yolo", write_yolo))
    },
}


@pytest.fixture(params=dataset_classes(), scope="module")
def dataset(request, tmp_path_factory) -> Dataset:
    made = create_dataset(request.param, **MAKE[request.param](tmp_path_factory.mktemp("data") / "of"))
    made.prepare()
    return made


def test_every_dataset_is_looked_at_and_drawn(dataset, tmp_path):
    survey = look_at(dataset)
    assert not survey.wrong
    assert [one.summary.name for one in survey.seen] == [split.name for split in dataset.surveyed()]
    first = survey.seen[0].summary
    assert (first.name, first.total, first.looked) == ("train", dataset.train_size, dataset.train_size)
    assert survey.classes == dataset.classes
    assert first.counted > 0
    assert len(first.mean) == len(first.std) == dataset.channels
    quick_look(dataset)
    drawing = loaded(find_task(dataset.task).drawing)(dataset)
    text = write_page("data", survey, drawing, tmp_path / "page.html").read_text()
    assert text.count("<img ") == sum(
        min(count, len(split)) for count, split in zip((24, 8), dataset.surveyed(), strict=True)
    ) + min(8, dataset.train_size)


def test_pixels_come_back_from_what_a_loader_normalizes(dataset):
    plain = next(iter(dataset.train_batches(batch_size=2, seed=0, epochs=1)))[0]
    loader = dataset.train_batches(batch_size=2, seed=0, epochs=1)
    pixels = loader.pixels(plain)
    assert pixels.shape == plain.shape
    assert pixels.min() > -130
    assert pixels.max() < 385
    assert pixels.max() > 5


@dataclass(frozen=True)
class Batched(Digits):
    """A dataset of somebody's own, of which there are batches alone."""

    def surveyed(self):
        return Dataset.surveyed(self)


def test_what_has_nothing_but_batches_is_looked_at_by_these(tmp_path):
    dataset = Batched()
    survey = look_at(dataset)
    train, test = (one.summary for one in survey.seen)
    labels = dataset.samples[1].labels
    assert (train.looked, test.looked) == (
        1424,
        359,
    )  # 1438 pictures in batches of 16, of which the last is no whole one
    assert [test.counts[label] for label in range(10)] == labels.bincount().tolist()
    assert survey.normalized
    assert test.mean[0] == pytest.approx(0, abs=0.05)
    assert quick_look(dataset) == ()
    drawing = loaded(find_task("classification").drawing)(dataset)
    assert write_page("own", survey, drawing, tmp_path / "page.html").read_text().count("<img ") == 8


def test_of_batches_as_many_samples_as_are_wanted():
    for summary, samples in look_at_batches(Batched(), 0, 20):
        assert (summary.total > 300, len(list(samples))) == (True, 20)


def test_labels_beyond_the_classes_and_values_that_are_none():
    class Wrong(Batched):
        classes = ("a", "b")

        def test_batches(self, *, batch_size, **options):
            images = torch.zeros(3, 1, 8, 8)
            images[0, 0, 0, 0] = float("nan")

            class Loader(list):
                total = 3

            return Loader([(images, torch.tensor([0, 1, 2]))])

    wrong = [each.text for each in look_at(Wrong(), limit=16).findings if each.wrong]
    assert any(text == "test: 1 of 3 pictures has a label beyond the classes: number 2 (2)" for text in wrong)
    assert any(text.startswith("test: 1 of 3 pictures holds values that are no finite numbers: ") for text in wrong)
