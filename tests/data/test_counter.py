from statistics import NormalDist

import pytest
import torch

from switchnorm.data.counter import Stream, integers, normal, permutation, seeds, splitmix64, uniform

INDEX = torch.arange(100_000)


def test_splitmix64_gives_the_published_sequence():
    # The first outputs of the reference implementation with state 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [int(z) % 2**64 for z in splitmix64(1234567, torch.arange(4))] == expected


def test_uniform_numbers_fill_the_unit_interval():
    numbers = uniform(0, 0, INDEX, Stream.FLIP)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.histc(10, 0, 1).sub(10_000).abs().max() < 500  # 5 standard deviations


@pytest.mark.parametrize("high", [1, 2, 9, 1000])
def test_integers_are_uniform_below_high(high):
    counts = torch.bincount(integers(0, 0, INDEX, Stream.CROP_TOP, high))
    expected = len(INDEX) / high
    assert len(counts) == high
    assert (counts - expected).abs().max() <= 5 * expected**0.5


def test_integers_reach_the_largest_high():
    numbers = integers(0, 0, INDEX, Stream.CROP_TOP, 2**31)
    assert numbers.min() >= 0
    assert 2**31 - 2**20 < numbers.max() < 2**31


def test_normal_numbers_are_the_quantiles_of_uniform_ones():
    some = INDEX[:1000]
    expected = [NormalDist().inv_cdf(float(u) + 2.0**-25) for u in uniform(1, 2, some, Stream.LIGHTING)]
    torch.testing.assert_close(
        normal(1, 2, some, Stream.LIGHTING).double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-5
    )
    numbers = normal(0, 0, INDEX, Stream.LIGHTING)
    assert abs(numbers.mean()) < 0.016  # 5 standard deviations
    assert abs(numbers.std() - 1) < 0.012


@pytest.mark.parametrize(("lowest", "sign"), [(0.0, -1), (1 - 2.0**-24, 1)])
def test_normal_numbers_are_finite_at_both_ends(monkeypatch, lowest, sign):
    monkeypatch.setattr("switchnorm.data.counter.uniform", lambda *_: torch.tensor([lowest]))
    assert 5 < sign * normal(0, 0, INDEX[:1], 0).item() < 5.5


def test_seeds_have_64_bits():
    drawn = seeds(1, 2, INDEX[:1000], Stream.COLOR)
    assert len(set(drawn)) == 1000
    assert 0.4 < sum(seed < 0 for seed in drawn) / 1000 < 0.6
    assert max(abs(seed) for seed in drawn) > 2**62
    assert seeds(1, 2, INDEX[7:8], Stream.COLOR) == drawn[7:8]


def test_no_two_purposes_share_a_stream():
    ranges = {Stream.LIGHTING: 3, Stream.ERASING_AREA: 10, Stream.ERASING_RATIO: 10, Stream.MOSAIC: 3}
    used = [number for stream in Stream for number in range(stream, stream + ranges.get(stream, 1))]
    assert sorted(used) == list(range(len(used)))


def test_a_number_depends_on_its_own_index_alone():
    some = torch.tensor([[7, 3], [99_999, 0]])
    assert torch.equal(uniform(1, 2, some, Stream.FLIP), uniform(1, 2, INDEX, Stream.FLIP)[some])


@pytest.mark.parametrize("other", [(1, 0, 1), (0, 1, 1), (0, 0, 2), (-1, 0, 1), (2**62, 0, 1)])
def test_seed_epoch_and_stream_give_unrelated_numbers(other):
    seed, epoch, stream = other
    pair = torch.stack([uniform(0, 0, INDEX, 1), uniform(seed, epoch, INDEX, stream)])
    assert torch.corrcoef(pair)[0, 1].abs() < 0.02


def test_seed_and_epoch_are_not_interchangeable():
    assert not torch.equal(uniform(1, 2, INDEX, 0), uniform(2, 1, INDEX, 0))


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_permutation_holds_every_index_once(n):
    assert torch.equal(permutation(3, 4, n).sort().values, torch.arange(n))


def test_permutation_changes_with_seed_and_epoch_only():
    order = permutation(3, 4, 1000)
    assert torch.equal(order, permutation(3, 4, 1000))
    assert not torch.equal(order, permutation(3, 5, 1000))
    assert not torch.equal(order, permutation(4, 4, 1000))


def test_all_permutations_are_about_equally_likely():
    orders = torch.stack([permutation(0, epoch, 4) for epoch in range(4800)])
    counts = orders.mul(torch.tensor([64, 16, 4, 1])).sum(1).bincount()
    counts = counts[counts > 0]
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 50  # chi-squared with 23 degrees of freedom: 1 in 1000 is above


@pytest.mark.gpu
def test_a_gpu_gives_the_same_numbers():
    on_gpu = INDEX.cuda()
    assert torch.equal(uniform(1, 2, on_gpu, 3).cpu(), uniform(1, 2, INDEX, 3))
    assert torch.equal(integers(1, 2, on_gpu, 3, 9).cpu(), integers(1, 2, INDEX, 3, 9))
    assert torch.equal(normal(1, 2, on_gpu, 3).cpu(), normal(1, 2, INDEX, 3))
    assert torch.equal(permutation(1, 2, 50_000, "cuda").cpu(), permutation(1, 2, 50_000))
