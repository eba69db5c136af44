import math

import pytest
import torch

from switchnorm.data.augment.erasing import erase, rectangles


@pytest.mark.parametrize("size", [(32, 32), (20, 35)])
def test_exactly_the_rectangle_becomes_0(size):
    index = torch.arange(200)
    images = torch.rand(200, 3, *size) + 1
    result = erase(images, 3, 4, index, probability=1)
    for image, erased, *rectangle in zip(images, result, *rectangles(3, 4, index, size), strict=True):
        top, left, height, width = (int(number) for number in rectangle)
        assert 0 <= top <= top + height <= size[0]
        assert 0 <= left <= left + width <= size[1]
        expected = image.clone()
        expected[:, top : top + height, left : left + width] = 0
        assert torch.equal(erased, expected)


def test_area_and_proportions_are_torchvisions():
    _, _, height, width = rectangles(0, 0, torch.arange(20_000), (224, 224))
    area, ratio = height * width / 224**2, height / width
    assert 0.018 < area.min() < 0.022
    assert 0.3 < area.max() < 0.34
    assert abs(area.mean() - 0.175) < 0.01  # the middle of 0.02 and 0.33
    assert math.log(0.3) - 0.1 < ratio.log().min() < math.log(0.3) + 0.1
    assert math.log(3.3) - 0.1 < ratio.log().max() < math.log(3.3) + 0.1


def test_rectangles_reach_every_edge():
    top, left, height, width = rectangles(0, 0, torch.arange(5000), (32, 32))
    assert top.min() == left.min() == 0
    assert (top + height).max() == (left + width).max() == 32


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_as_many_pictures_are_touched_as_asked_for(probability):
    result = erase(torch.ones(4000, 1, 8, 8), 0, 0, torch.arange(4000), probability=probability)
    touched = (result == 0).flatten(1).any(1).float().mean()
    assert abs(touched - probability) < (0.03 if 0 < probability < 1 else 1e-9)


def test_a_picture_in_which_nothing_fits_stays_whole():
    assert torch.equal(erase(torch.ones(50, 1, 1, 1), 0, 0, torch.arange(50), probability=1), torch.ones(50, 1, 1, 1))


def test_the_company_does_not_matter_and_the_input_stays():
    images = torch.rand(50, 3, 16, 16)
    copy = images.clone()
    together = erase(images, 0, 0, torch.arange(50), probability=0.5)
    some = torch.tensor([31, 4])
    assert torch.equal(erase(images[some], 0, 0, some, probability=0.5), together[some])
    assert not torch.equal(erase(images, 0, 1, torch.arange(50), probability=0.5), together)
    assert torch.equal(images, copy)
