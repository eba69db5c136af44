import pytest
import torch

from switchnorm.data.augment.crop_and_flip import crop_and_flip, crop_offsets, flips


def naive(image, top, left, flip, padding):
    """One image, one pixel at a time."""
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            row = y + top - padding
            column = (width - 1 - x if flip else x) + left - padding
            if 0 <= row < height and 0 <= column < width:
                result[:, y, x] = image[:, row, column]
    return result


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("shape", "padding"), [((3, 32, 32), 4), ((1, 8, 8), 1), ((2, 7, 5), 3), ((1, 1, 3), 2)])
@pytest.mark.parametrize("flip", [True, False])
def test_equals_the_loop_over_pixels(shape, padding, flip, dtype):
    images = torch.randint(1, 256, (16, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    index = torch.arange(100, 116)
    top, left = crop_offsets(5, 6, index, padding)
    mirrored = flips(5, 6, index) if flip else torch.zeros(16, dtype=torch.bool)
    expected = [naive(*one, padding) for one in zip(images, top, left, mirrored, strict=True)]
    result = crop_and_flip(images, 5, 6, index, padding=padding, flip=flip)
    assert torch.equal(result, torch.stack(expected))
    assert result.dtype == dtype
    assert result.is_contiguous()


def test_every_window_and_both_directions_occur_evenly():
    index = torch.arange(81_000)
    top, left = crop_offsets(0, 0, index, padding=4)
    windows = (9 * top + left).bincount(minlength=81)
    assert len(windows) == 81
    assert (windows - 1000).abs().max() < 160  # 5 standard deviations
    assert abs(flips(0, 0, index).float().mean() - 0.5) < 0.01


def test_a_sample_is_augmented_alike_in_any_company_and_anew_in_every_epoch():
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    index = torch.arange(50)
    together = crop_and_flip(images, 0, 0, index)
    some = torch.tensor([31, 4])
    assert torch.equal(crop_and_flip(images[some], 0, 0, some), together[some])
    assert not torch.equal(crop_and_flip(images, 0, 1, index), together)
    assert not torch.equal(crop_and_flip(images, 1, 0, index), together)


def test_leaves_its_input_alone():
    images = torch.ones(4, 1, 5, 5)
    crop_and_flip(images, 0, 0, torch.arange(4))
    assert torch.equal(images, torch.ones(4, 1, 5, 5))
