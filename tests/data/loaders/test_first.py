"""The first samples alone: whatever the loader, the batch and the processes, they are what the whole begins with."""

import pytest
import torch

from switchnorm.data import Batches, Folder, Share, TrainingBatches
from switchnorm.errors import InputError
from tests.data.segmentation.mapped import dataset, write_root

#: A function for each kind of loader: share -> loader of 9 samples or more, 4 to a batch.
KINDS = ("memory", "flipped", "pictures", "scenes")


@pytest.fixture
def make(request, samples, tree, tmp_path):
    kind, workers = request.param
    if kind in ("memory", "flipped"):
        views = "flip" if kind == "flipped" else "centre"
        return lambda share=Share(): Batches(samples, batch_size=4, share=share, views=views)
    if kind == "pictures":
        data = Folder(str(tree), size=16, resize=20, workers=workers)
    else:
        data = dataset(write_root(tmp_path / "masks", train=[], val=[(20, 24)] * 9), workers=workers)
    return lambda share=Share(): data.test_batches(batch_size=4, share=share)


def of_all(batches):
    """What the batches hold, a tuple of tensors for each sample."""
    found = []
    for batch in batches:
        if isinstance(batch, list):
            found += [(torch.tensor(scene.index), *scene.pictures, scene.target) for scene in batch]
        else:
            found += list(zip(*batch, strict=True))
    return found


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("make", [(kind, 0) for kind in KINDS], indirect=True)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_the_processes_together_see_the_first_samples(make, world, count):
    whole = of_all(make())
    loaders = [make(Share(rank, world)) for rank in range(world)]
    for loader in loaders:
        loader.first(count)
        assert (loader.total, len(loader)) == (count, -(-count // 4))
    shares = [[of_all([batch]) for batch in loader] for loader in loaders]
    assert {len(share) for share in shares} == {-(-count // 4)}
    assert_same([sample for parts in zip(*shares, strict=True) for part in parts for sample in part], whole[:count])
    for parts in zip(*shares, strict=True):
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("make", [("pictures", 2), ("scenes", 1)], indirect=True)
def test_workers_read_no_others(make):
    whole, loader = of_all(make()), make()
    loader.first(5)
    assert_same(of_all(loader), whole[:5])


@pytest.mark.parametrize("make", [(kind, 0) for kind in KINDS], indirect=True)
def test_more_than_there_are_is_all_of_them_and_fewer_than_1_refused(make):
    whole, loader = of_all(make()), make()
    loader.first(1000)
    assert loader.total == len(whole)
    assert_same(of_all(loader), whole)
    for count in (0, -3):
        with pytest.raises(InputError, match=f"the first samples must be at least 1, got {count}"):
            loader.first(count)
    assert_same(of_all(loader), whole)
    loader.first(2)
    loader.first(5)
    assert_same(of_all(loader), whole[:2])


def test_training_has_no_first_samples(samples):
    with pytest.raises(InputError, match="the first 3 samples can be evaluated alone, and not trained on"):
        TrainingBatches(samples, batch_size=4, seed=0).first(3)
