"""Pictures that cannot be read: another takes the place, with its own objects, or training stops."""

import pytest
import torch
from PIL import Image

from switchnorm.data.detection.augmentation import Augmentation
from switchnorm.data.detection.sizes import TrainingSizes
from switchnorm.data.detection.training_reader import TrainingReader, TrainingRequest
from switchnorm.data.files.picture_file import Pixels
from switchnorm.errors import InputError
from tests.data.detection.painted import Thing, assert_same_batches, dataset, listed
from tests.data.detection.test_training import EVERYTHING, WAYS, assert_follows
from tests.data.photos import truncate
from tests.data.segmentation.mapped import refused

PLAIN = Augmentation(TrainingSizes((40,), None), "none", 0.0, 0.0, 0.0, seed=7)


@pytest.fixture
def damaged(tmp_path):
    """What opens a dataset with masks of which three training pictures and a test picture are damaged or gone."""

    def opened(**options):
        data = dataset(root, **options)
        _ = data._train, data._test  # paints what is not there
        truncate(root / "train" / "00.png")
        (root / "train" / "03.png").unlink()
        Image.new("RGB", (20, 30)).save(root / "train" / "04.png")
        truncate(root / "val" / "02.png")
        return data

    root = tmp_path / "masks"
    root.mkdir()
    return opened


@pytest.mark.parametrize("options", [{}, WAYS["jitter"], WAYS["mosaic"], EVERYTHING])
def test_the_next_whole_picture_takes_the_place_with_its_own_objects(damaged, options):
    data = damaged(on_damaged="skip", **options)
    said = "3 of 11 training pictures could not be read and others took their places"
    with pytest.warns(UserWarning, match=said):
        whole = list(data.train_batches(batch_size=2, seed=7, steps=15))  # three passes
    for images, targets in whole:
        for image, target in zip(images, targets, strict=True):
            assert_follows(image, target, has_masks=True)
    with pytest.warns(UserWarning, match=said):
        again = list(data.train_batches(batch_size=2, seed=7, steps=5))
    assert_same_batches(whole[:5], again)


def test_a_picture_in_the_place_of_another_has_its_own_size_and_boxes_and_the_others_numbers(tmp_path):
    small = [Thing((2, 2, 9, 9), 3), Thing((20, 20, 31, 31), 3)]
    things = [[Thing((4, 4, 20, 20), 1)], [Thing((8, 8, 30, 30), 2)], small]
    pictures = listed(tmp_path, [(40, 50), (40, 50), (32, 40)], things, may_miss=True)
    (tmp_path / "01.png").unlink()
    read = TrainingReader(pictures, Pixels(), PLAIN).read(TrainingRequest(0, 0, [0, 1], (64, 64)))
    assert list(read.damaged) == [1]
    assert "01.png (it is missing)" in read.damaged[1]
    assert read.counts == [(1, 0), (2, 0)]
    assert read.labels.tolist() == [1, 3, 3]
    assert read.sizes == [(40, 50), (40, 50)]
    grown = [[value * 1.25 for value in thing.box] for thing in small]
    assert torch.equal(read.boxes, torch.tensor([[4, 4, 20, 20], *grown]))
    assert read.keys == [draw.key for draw in PLAIN.draw(0, [0, 1], 3)]


def test_a_picture_in_the_place_of_another_fits_into_the_batch(tmp_path):
    things = [[Thing((4, 4, 20, 20), 1)], [Thing((30, 10, 90, 30), 2)]]
    pictures = listed(tmp_path, [(40, 40), (40, 120)], things, may_miss=True)
    truncate(tmp_path / "00.png")
    read = TrainingReader(pictures, Pixels(), PLAIN).read(TrainingRequest(0, 0, [0], (64, 64)))
    assert read.sizes == [(21, 64)]
    torch.testing.assert_close(read.boxes, torch.tensor([[16.0, 5.25, 48.0, 15.75]]))
    assert (read.images[0, :, 21:] == 0).all()


@pytest.mark.parametrize("options", [{}, WAYS["mosaic"], EVERYTHING])
def test_training_stops_at_one_unless_it_may_be_skipped(damaged, options):
    batches = damaged(**options).train_batches(batch_size=2, seed=7, steps=10)
    refused(r"0[034]\.png.*on_damaged to 'skip'", lambda: list(batches))


def test_one_of_another_size_than_its_boxes_are_for_is_damaged_too(damaged):
    reader = damaged().train_batches(batch_size=2, seed=7).reader
    with pytest.raises(InputError, match=r"04\.png is 20x30; expected 48x84"):
        reader.read(TrainingRequest(0, 0, [4], (96, 96)))


def test_validation_leaves_it_out_and_says_so(damaged):
    batches = damaged(on_damaged="skip").test_batches(batch_size=3)
    with pytest.warns(UserWarning, match="1 of 5 test pictures could not be read and were left out"):
        scenes = [scene for batch in batches for scene in batch]
    assert [scene.index for scene in scenes] == [0, 1, 3, 4]
    assert batches.left_out == [2]
    refused(r"02\.png.*on_damaged to 'skip'", lambda: list(damaged().test_batches(batch_size=3)))


def test_when_none_can_be_read_that_is_said(tmp_path):
    pictures = listed(tmp_path, [(8, 8)] * 3, [[]] * 3, may_miss=True)
    for file in tmp_path.iterdir():
        file.write_bytes(b"")
    reader = TrainingReader(pictures, Pixels(), PLAIN)
    with pytest.raises(InputError, match=r"none of the 3 training pictures in .* can be read; the first is .*00\.png"):
        reader.read(TrainingRequest(0, 0, [0], (64, 64)))
