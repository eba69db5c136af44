import itertools

import pytest
import torch

from switchnorm.data import Batches, Samples, Share, TrainingBatches
from switchnorm.data.augment.crop_and_flip import crop_and_flip
from switchnorm.data.counter import permutation
from switchnorm.errors import InputError


def training(samples, **options):
    return TrainingBatches(samples, **{"batch_size": 4, "seed": 7, "augment": crop_and_flip, **options})


def epochs(batches, count):
    """The batches of several epochs, a list per epoch."""
    return [list(batches) for _ in range(count)]


def endless(batches):
    while True:
        yield from batches


def labels(batches):
    return [label for _, batch_labels in batches for label in batch_labels.tolist()]


def joined(ranks):
    """The batches of which every process in `ranks` got a share."""
    return [tuple(torch.cat(parts) for parts in zip(*shares, strict=True)) for shares in zip(*ranks, strict=True)]


def assert_same(left, right):
    assert len(left) == len(right)
    for (left_images, left_labels), (right_images, right_labels) in zip(left, right, strict=True):
        assert torch.equal(left_images, right_images)
        assert torch.equal(left_labels, right_labels)


def test_evaluation_gives_every_sample_once_in_order_normalized(samples):
    batches = Batches(samples, batch_size=4)
    images = torch.cat([images for images, _ in batches])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (samples.mean, samples.std))
    assert [len(batch_labels) for _, batch_labels in batches] == [4, 4, 2]
    assert len(batches) == 3
    assert labels(batches) == list(range(10))
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, (samples.images.float() - mean) / std)


def test_evaluation_starts_over_after_a_break(samples):
    batches = Batches(samples, batch_size=4)
    next(iter(batches))
    assert labels(batches) == list(range(10))


@pytest.mark.parametrize("augment", [None, crop_and_flip])
def test_float_images_survive_normalization(augment):
    images = torch.rand(6, 1, 4, 4)
    samples = Samples(images.clone(), torch.arange(6), (0.5,), (0.25,))
    list(Batches(samples, batch_size=6))
    list(TrainingBatches(samples, batch_size=6, seed=0, augment=augment))
    assert torch.equal(samples.images, images)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_evaluation_shares_lose_and_repeat_nothing(samples, world):
    shares = [list(Batches(samples, batch_size=4, share=Share(rank, world))) for rank in range(world)]
    whole = list(Batches(samples, batch_size=4))
    assert {len(share) for share in shares} == {len(whole)}
    assert_same(joined(shares), whole)
    sizes = [[len(batch_labels) for _, batch_labels in batch] for batch in zip(*shares, strict=True)]
    assert all(max(batch) - min(batch) <= 1 for batch in sizes)


def test_training_batches_follow_the_permutation(samples):
    first, second = epochs(training(samples), 2)
    assert labels(first) == permutation(7, 0, 10)[:8].tolist()
    assert labels(second) == permutation(7, 1, 10)[:8].tolist()


@pytest.mark.parametrize("epoch", [0, 1])
def test_training_batches_are_augmented_then_normalized(samples, epoch):
    pixels = crop_and_flip(samples.images, 7, epoch, torch.arange(10))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (samples.mean, samples.std))
    for images, batch_labels in epochs(training(samples), 2)[epoch]:
        torch.testing.assert_close(images, (pixels[batch_labels] - mean) / std)


def test_training_batches_without_augmentation_are_the_images(samples):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (samples.mean, samples.std))
    for images, batch_labels in training(samples, augment=None):
        torch.testing.assert_close(images, (samples.images[batch_labels] - mean) / std)


def test_finish_sees_the_normalized_images_their_epoch_and_their_places(samples):
    seen = []

    def finish(images, seed, epoch, index):
        seen.append((seed, epoch, index.tolist()))
        return images + 100

    plain = epochs(training(samples), 2)
    finished = epochs(training(samples, finish=finish), 2)
    for before, after in zip(plain, finished, strict=True):
        assert_same([(images + 100, batch_labels) for images, batch_labels in before], after)
    assert seen == [(7, epoch, permutation(7, epoch, 10)[i : i + 4].tolist()) for epoch in (0, 1) for i in (0, 4)]


def test_the_flipped_view_is_the_image_and_its_mirror(samples):
    plain = list(Batches(samples, batch_size=4))
    flipped = list(Batches(samples, batch_size=4, views="flip"))
    pairs = [(torch.stack([images, images.flip(-1)], 1), batch_labels) for images, batch_labels in plain]
    assert_same(flipped, pairs)


@pytest.mark.parametrize("views", ["ten", "centres"])
def test_other_views_are_refused(samples, views):
    with pytest.raises(InputError, match=f"views '{views}' is not possible here; images in memory have 'centre' and"):
        Batches(samples, batch_size=4, views=views)


def test_every_training_batch_is_full(samples):
    batches = training(samples)
    assert len(batches) == 2
    assert [len(batch_labels) for _, batch_labels in batches] == [4, 4]


@pytest.mark.parametrize("world", [2, 4])
def test_the_processes_share_the_batch_of_one_process(samples, world):
    whole = epochs(training(samples), 2)
    shares = [epochs(training(samples, share=Share(rank, world)), 2) for rank in range(world)]
    for epoch in range(2):
        ranks = [share[epoch] for share in shares]
        assert {len(batch_labels) for rank in ranks for _, batch_labels in rank} == {4 // world}
        assert_same(joined(ranks), whole[epoch])


def test_the_batch_size_does_not_change_how_a_sample_is_augmented(samples):
    def by_label(batch_size):
        (epoch,) = epochs(training(samples, batch_size=batch_size), 1)
        images, batch_labels = (torch.cat(parts) for parts in zip(*epoch, strict=True))
        return dict(zip(batch_labels.tolist(), images, strict=True))

    small, large = by_label(2), by_label(5)
    assert len(small) == len(large) == 10
    assert all(torch.equal(small[label], large[label]) for label in range(10))


@pytest.mark.parametrize("handed_out", range(12))
def test_a_loaded_state_continues_with_the_very_next_batch(samples, handed_out):
    whole = list(itertools.islice(endless(training(samples, batch_size=2)), 12))  # 5 to an epoch
    interrupted, resumed = training(samples, batch_size=2), training(samples, batch_size=2)
    list(itertools.islice(endless(interrupted), handed_out))
    resumed.load_state_dict(interrupted.state_dict())
    assert_same(list(itertools.islice(endless(resumed), 12 - handed_out)), whole[handed_out:])


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 12])
def test_an_epoch_is_a_window_in_the_sequence_of_passes(samples, steps):
    plain = list(itertools.islice(endless(training(samples, batch_size=2)), 24))  # 5 to a pass
    batches = training(samples, batch_size=2, steps=steps)
    assert len(batches) == steps
    assert_same([batch for _ in range(24 // steps) for batch in batches], plain[: 24 // steps * steps])
    for number in range(24):
        resumed = training(samples, batch_size=2, steps=steps)
        resumed.load_state_dict({"epoch": number // steps, "position": number % steps})
        assert_same([next(iter(resumed))], plain[number : number + 1])


def test_an_epoch_without_steps_is_refused(samples):
    with pytest.raises(InputError, match="steps must be at least 1, or none for a whole pass, got 0"):
        training(samples, steps=0)


def test_finish_sees_the_pass_of_a_window_that_spans_two(samples):
    seen = []
    list(training(samples, steps=5, finish=lambda images, seed, pass_index, index: seen.append(pass_index) or images))
    assert seen == [0, 0, 1, 1, 2]


def test_the_state_counts_the_batch_in_use(samples):
    batches = training(samples)
    assert batches.state_dict() == {"epoch": 0, "position": 0}
    states = [batches.state_dict() for _ in range(2) for _ in batches]
    assert states == [{"epoch": epoch, "position": position} for epoch in (0, 1) for position in (1, 2)]


def test_the_epoch_advances_although_nobody_asks_beyond_the_last_batch(samples):
    batches = training(samples)
    seen = [labels(itertools.islice(iter(batches), len(batches))) for _ in range(2)]
    assert seen == [permutation(7, epoch, 10)[:8].tolist() for epoch in (0, 1)]


def test_iterators_that_are_never_used_change_nothing(samples):
    batches = training(samples)
    list(batches)
    iter(batches)
    iter(batches)
    assert labels(batches) == permutation(7, 1, 10)[:8].tolist()


def test_a_position_beyond_the_epoch_is_refused(samples):
    with pytest.raises(InputError, match=r"after 3 batches of an epoch of 2; continue with the batch size"):
        training(samples).load_state_dict({"epoch": 0, "position": 3})


def test_a_training_set_smaller_than_a_batch_is_refused(samples):
    with pytest.raises(InputError, match="batch size 11 is larger than the training set, 10 images"):
        training(samples, batch_size=11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 4, "share": Share(world=3)}, "batch size 4 cannot be shared evenly by 3 processes"),
        ({"batch_size": 2, "share": Share(world=3)}, "batch size 2 is smaller than the number of processes, 3"),
        ({"batch_size": 0}, "batch size 0 is smaller than the number of processes, 1"),
    ],
)
def test_processes_that_do_not_fit_are_refused(samples, options, message):
    with pytest.raises(InputError, match=message):
        training(samples, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(10, 5, 4)}, r"not \(10, 5, 4\) torch.float32"),
        ({"images": torch.zeros(10, 3, 5, 4, dtype=torch.float64)}, "uint8 or float32, not .* torch.float64"),
        ({"labels": torch.arange(9)}, r"must be \(10,\) int64 like the images, not \(9,\) torch.int64"),
        ({"labels": torch.zeros(10)}, r"not \(10,\) torch.float32"),
        ({"mean": (0.5,)}, "one number per channel, 3, not 1 and 3"),
        ({"std": (0.5, 0.5)}, "one number per channel, 3, not 3 and 2"),
    ],
)
def test_samples_that_do_not_fit_together_are_refused(samples, change, message):
    fields = {"images": samples.images, "labels": samples.labels, "mean": samples.mean, "std": samples.std}
    with pytest.raises(InputError, match=message):
        Samples(**{**fields, **change})
