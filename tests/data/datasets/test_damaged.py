"""Pictures that cannot be read: what stops, what takes their places, and what is said."""

import warnings

import pytest
import torch

from switchnorm.data import Share
from switchnorm.data.augment.picture_crops import TrainingCrops
from switchnorm.data.counter import permutation
from switchnorm.data.files.picture_file import read_picture
from switchnorm.errors import InputError
from tests.data.photos import folder, normalized, training, truncate, write_lists


def damage(tree):
    """One truncated picture, one empty one, one that is text, in both splits."""
    for split in ("train", "val"):
        truncate(tree / split / "cat/1.jpg")
        (tree / split / "dog/2.jpg").write_bytes(b"")
        (tree / split / "fox/0.jpg").write_text("not found")


def test_a_damaged_picture_stops_with_its_path(tree):
    damage(tree)
    for batches in (training(tree, batch_size=12), folder(tree).test_batches(batch_size=9)):
        message = rf"cannot read {tree}/\w+/\w+/\d.jpg \(.+\); bring it, or set on_damaged to 'skip'"
        with pytest.raises(InputError, match=message) as caught:
            list(batches)
        assert "\n" not in str(caught.value)


def test_evaluation_leaves_out_what_is_damaged_and_reports_it_once(tree):
    whole = list(folder(tree).test_batches(batch_size=4))
    damage(tree)
    (tree / "val/fox/2.jpg").unlink()
    write_lists(tree)
    with (tree / "val.txt").open("a") as file:
        file.write("fox/2.jpg 2\n")
    batches = folder(tree, on_damaged="skip").test_batches(batch_size=4)
    with pytest.warns(UserWarning, match="could not be read") as caught:
        left = list(batches)
    assert batches.left_out == [1, 5, 6, 8]
    names = [folder(tree, on_damaged="skip").test_name(place) for place in batches.left_out]
    assert names == ["cat/1.jpg", "dog/2.jpg", "fox/0.jpg", "fox/2.jpg"]
    assert [len(labels) for _, labels in left] == [3, 2, 0]
    assert left[2][0].shape == (0, 3, 16, 16)
    kept = torch.tensor([0, 2, 3, 4, 7])
    for part in (0, 1):
        expected = torch.cat([batch[part] for batch in whole])[kept]
        assert torch.equal(torch.cat([batch[part] for batch in left]), expected)
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith(f"4 of 9 test pictures could not be read and were left out: {tree}/val/cat/1.jpg (")
    assert text.endswith(" and 1 more")
    assert "\n" not in text


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_process_knows_which_samples_of_its_share_are_left_out(tree, world):
    damage(tree)  # places 1, 5 and 6
    found, kept = [], []
    for rank in range(world):
        batches = folder(tree, on_damaged="skip").test_batches(batch_size=4, share=Share(rank, world))
        assert batches.left_out == []
        for _ in range(2):  # each iteration starts anew
            seen, count = [], 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for position, (_, labels) in enumerate(batches):
                    places = batches.places(position)
                    own = [place for place in range(places.start, places.stop) if place not in (1, 5, 6)]
                    assert labels.tolist() == [place // 3 for place in own]
                    count += len(labels)
                    seen += [place for place in (1, 5, 6) if places.start <= place < places.stop]
                    assert batches.left_out == seen  # nothing of batches that are read ahead
        found += batches.left_out
        kept.append(count)
    assert sorted(found) == [1, 5, 6]
    assert sum(kept) == 6


def test_nothing_is_left_out_where_all_can_be_read(tree):
    batches = folder(tree, on_damaged="skip").test_batches(batch_size=4)
    list(batches)
    assert batches.left_out == []


def test_training_takes_the_next_picture_and_reports_once_per_epoch(tree):
    whole = folder(tree, color_jitter=0.0)
    healthy = {place: (whole._train.paths[place], int(whole._train.labels[place])) for place in range(12)}
    damage(tree)
    for name in ("cat/2", "dog/3", "fox/3"):  # some in a row, and some whose places another class takes
        truncate(tree / f"train/{name}.jpg")
    batches = training(tree, on_damaged="skip", color_jitter=0.0, lighting=0.0)
    crops = TrainingCrops(16, 20, 0.08, 0.0, 0, 9, plain_from=4)
    taken = {1: 3, 2: 3, 6: 9, 7: 9, 8: 9, 11: 0}
    for epoch in (0, 1):
        with pytest.warns(
            UserWarning, match="6 of 12 training pictures could not be read and others took their"
        ) as caught:
            got = list(batches)
        assert len(caught) == 1
        order = permutation(7, epoch, 12)
        for place, sample in enumerate(order.tolist()):
            path, label = healthy[taken.get(sample, sample)]
            pixels = crops([read_picture(path)], 7, epoch, torch.tensor([sample]))
            torch.testing.assert_close(got[place // 4][0][place % 4], normalized(pixels)[0], rtol=1e-5, atol=1e-5)
            assert got[place // 4][1][place % 4] == label


def test_a_training_set_without_a_readable_picture_stops_although_it_may_skip(tree):
    for path in (tree / "train").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=rf"none of the 12 training pictures in {tree}/train can be read"):
        next(iter(training(tree, on_damaged="skip")))


def test_nothing_is_reported_where_nothing_is_damaged(tree):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(training(tree, on_damaged="skip"))
        list(folder(tree, on_damaged="skip").test_batches(batch_size=4))
