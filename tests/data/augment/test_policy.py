import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from switchnorm.data.augment.policy import rand_augment, reproducible_torchvision
from switchnorm.data.counter import Stream, seeds

IMAGES = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_is_torchvisions_under_the_counters_seeds():
    index = torch.arange(12) * 7
    expected = []
    for image, seed in zip(IMAGES, seeds(1, 2, index, Stream.POLICY), strict=True):
        torch.manual_seed(seed)
        expected.append(v2.RandAugment(2, 9, interpolation=InterpolationMode.BILINEAR)(image))
    result = rand_augment(IMAGES, 1, 2, index, operations=2, magnitude=9)
    assert torch.equal(result, torch.stack(expected))
    assert not torch.equal(result, IMAGES)


def test_the_company_does_not_matter_and_neither_generator_nor_input_change():
    before, copy = torch.get_rng_state(), IMAGES.clone()
    together = rand_augment(IMAGES, 0, 0, torch.arange(12), operations=1, magnitude=20)
    some = torch.tensor([11, 4])
    assert torch.equal(rand_augment(IMAGES[some], 0, 0, some, operations=1, magnitude=20), together[some])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(IMAGES, copy)


def test_torchvision_computes_in_one_thread_and_torch_is_left_as_it_was():
    before = torch.get_rng_state()
    torch.set_num_threads(3)
    try:
        with pytest.raises(TypeError, match="channel"):  # while it is computing
            rand_augment(IMAGES[:, :2], 0, 0, torch.arange(12), operations=2, magnitude=9)
        with reproducible_torchvision() as seed:
            seed(5)
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(1)
