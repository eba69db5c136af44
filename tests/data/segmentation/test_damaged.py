"""Pictures and masks that cannot be read: what stops, what takes their places, and what is said."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data import Share, create_dataset
from switchnorm.data.segmentation import Masks
from tests.data.photos import truncate
from tests.data.segmentation.mapped import (
    SIZES,
    assert_same,
    dataset,
    labels_of,
    pixels_of,
    refused,
    shown_labels,
    write_odgt,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*could not be read")

#: The places of what `damage` damages, in both splits.
BAD = {"train": {1, 3, 4, 6, 7}, "val": {1, 3, 4}}


def damage(root):
    """A truncated picture, one that is none, one without a mask; in training a damaged mask and one of another size."""
    for split in ("train", "val"):
        truncate(root / f"{split}/01.png")
        (root / f"{split}/03.png").write_text("no picture")
        (root / f"{split}annot/04.png").unlink()
    truncate(root / "trainannot/06.png")
    Image.fromarray(labels_of(0, (20, 20))).save(root / "trainannot/07.png")


def skipping(root, **options):
    return dataset(root, on_damaged="skip", **options)


def training(root, share=Share(), batch_size=4, steps=None, **options):
    return skipping(root, **options).train_batches(batch_size=batch_size, seed=5, steps=steps, share=share)


def test_a_damaged_file_stops_with_the_way_to_go_on(own):
    truncate(own / "val/01.png")
    refused(
        r"cannot read .*/val/01.png \(.*\); bring it, or set on_damaged to 'skip'",
        lambda: list(dataset(own).test_batches(batch_size=1)),
    )
    Image.fromarray(labels_of(0, (20, 20))).save(own / "valannot/00.png")
    refused(
        "00.png is 20x20; expected 30x24 as .*; mend it, or set on_damaged",
        lambda: list(dataset(own).test_batches(batch_size=1)),
    )
    refused("on_damaged must be 'stop' or 'skip', got 'ignore'", lambda: dataset(own, on_damaged="ignore"))


@pytest.mark.parametrize("world", [1, 2])
def test_evaluation_leaves_out_what_is_damaged_and_reports_it(own, world):
    whole = {scene.index: scene for batch in dataset(own).test_batches(batch_size=2) for scene in batch}
    damage(own)
    found, left_out = {}, []
    for rank in range(world):
        batches = skipping(own).test_batches(batch_size=2, share=Share(rank, world))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found |= {scene.index: scene for batch in batches for scene in batch}
        left_out += batches.left_out
        said = [str(each.message) for each in caught]
        count = len(batches.left_out)
        assert len(said) == (count > 0)
        assert all(f"{count} of 5 test pictures could not be read and were left out: " in each for each in said)
    assert set(left_out) == BAD["val"]
    assert set(found) == {0, 2}
    for index, scene in found.items():
        assert torch.equal(scene.target, whole[index].target)
        assert torch.equal(scene.pictures[0], whole[index].pictures[0])


@pytest.mark.parametrize(
    "options", [{}, {"crop": [24, 24], "scale": [0.5, 2.0]}, {"short_sides": [16, 32], "color_jitter": 0.3}]
)
def test_training_takes_the_next_whole_picture_as_it_would_be_in_that_place(own, options):
    damage(own)
    batches = training(own, **options)
    with pytest.warns(UserWarning, match="5 of 11 training pictures could not be read and others took their places"):
        got = list(batches) + list(batches)
    for images, labels in got:
        assert images.shape[2:] == labels.shape[1:]
        shown = shown_labels(images)
        inside = (labels != 255) & (shown != 255)
        assert inside.any()
        assert ((labels == shown) | ~inside).double().mean() > 0.9  # resized edges are mixed
    if options:
        return
    takes = {1: 2, 3: 5, 4: 5, 6: 8, 7: 8}
    for epoch in (0, 1):
        order = batches._order(epoch, "cpu").tolist()
        for number, (images, labels) in enumerate(got[2 * epoch : 2 * epoch + 2]):
            for place, sample in enumerate(order[4 * number : 4 * number + 4]):
                found = takes.get(sample, sample)
                expected = labels_of(found, SIZES[found])
                height, width = expected.shape
                shown = labels[place, :height, :width].numpy()
                fits = height <= images.shape[2] and width <= images.shape[3]
                assert not fits or any(np.array_equal(shown, each) for each in (expected, expected[:, ::-1]))
                assert (pixels_of(images)[place].isfinite()).all()


def test_the_same_pictures_whatever_reads_them_and_after_a_resume(own):
    damage(own)
    whole = training(own)
    expected = [*whole, *whole]
    assert_same(list(training(own, workers=2)), expected[:2])
    shares = [list(training(own, Share(rank, 2))) for rank in range(2)]
    for number, (images, labels) in enumerate(expected[:2]):
        assert torch.equal(torch.cat([each[number][0] for each in shares]), images)
        assert torch.equal(torch.cat([each[number][1] for each in shares]), labels)
    resumed = training(own)
    resumed.load_state_dict({"epoch": 1, "position": 1})
    assert_same(list(resumed), expected[3:])


def test_nothing_is_said_where_nothing_is_damaged(own):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(list(training(own)), list(dataset(own).train_batches(batch_size=4, seed=5)))
        list(skipping(own).test_batches(batch_size=2))
    assert skipping(own).unusual() == ()


def test_where_nothing_can_be_read_nothing_is_trained_or_listed(own):
    for path in (own / "train").iterdir():
        path.write_text("no picture")
    refused("none of the 11 pictures in .*/train can be read", lambda: training(own))
    (own / "train/00.png").write_bytes((own / "val/00.png").read_bytes()[:60])  # of which the size can be read
    refused(
        "none of the 11 training pictures in .*/train can be read; the first is .*/train/[0-9]{2}.png \\(",
        lambda: list(training(own)),
    )
    for path in (own / "trainannot").iterdir():
        path.unlink()
    refused("11 of the 11 pictures in .*/train have no mask", skipping(own).prepare)


def test_masks_without_a_picture_are_counted(own):
    (own / "val/02.png").unlink()
    refused("1 of the 5 masks in .*/valannot have no picture", dataset(own).prepare)
    data = skipping(own)
    assert data.test_size == 4
    (said,) = data.unusual(training=False)
    assert said.startswith("val leaves out masks without a picture: 1 (")


def test_a_mask_that_means_nothing_stops_in_any_case(own):
    mask = labels_of(1001, (30, 25))
    mask[4, 2] = 9
    Image.fromarray(mask).save(own / "valannot/01.png")
    refused("01.png has 9 in row 4, column 2", lambda: list(skipping(own).test_batches(batch_size=1)))


def test_listed_files_may_be_missing(own):
    entries = []
    for place, (height, width) in enumerate(SIZES):
        names = {"fpath_img": f"train/{place:02d}.png", "fpath_segm": f"trainannot/{place:02d}.png"}
        entries.append(names | {"width": width + (place == 9), "height": height})
    write_odgt(own / "training.odgt", entries)
    damage(own)
    for path in (own / "trainannot").iterdir():  # ADE20K's numbers begin with 1
        if path.name not in ("06.png", "07.png"):
            Image.fromarray(np.array(Image.open(path)) + 1).save(path)
    (own / "train/10.png").unlink()
    refused(
        r"training.odgt: 2 of its 22 pictures and masks are missing, .*bring them, or set on_damaged to 'skip'",
        create_dataset("ade20k", root=str(own)).prepare,
    )
    options = {"short_sides": [], "label_stride": 1, "workers": 0, "on_damaged": "skip"}
    data = create_dataset("ade20k", root=str(own), **options)
    with pytest.warns(UserWarning, match="of 11 training pictures could not be read"):
        got = list(data.train_batches(batch_size=11, seed=1))
    assert sorted(got[0][1].unique().tolist()) == [0, 1, 2, 255]


def test_the_default_stops():
    assert Masks("x").on_damaged == "stop"
