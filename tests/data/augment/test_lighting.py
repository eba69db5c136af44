from statistics import NormalDist

import numpy as np
import pytest
import torch

from switchnorm.data.augment.lighting import (
    COMPONENTS,
    DEVIATIONS,
    PUBLISHED_COMPONENTS,
    PUBLISHED_DEVIATION,
    lighting,
)
from switchnorm.data.counter import Stream, uniform

STD = (0.229, 0.224, 0.225)

#: The numbers of SN's and SSN's published code, as they stand there, and its product.
EIG_VEC = np.array([[0.4009, 0.7192, -0.5675], [-0.8140, -0.0045, -0.5808], [0.4203, -0.6948, -0.5836]])
EIG_VAL = np.array([0.2175, 0.0188, 0.0045])


def published_color(alpha):
    return (EIG_VAL * alpha) @ EIG_VEC


def alphas(seed, epoch, number, deviation):
    """The three normal numbers that a sample draws."""
    draws = [float(uniform(seed, epoch, number, Stream.LIGHTING + component)) for component in range(3)]
    return np.array([NormalDist(0, deviation).inv_cdf(draw + 2.0**-25) for draw in draws])


def reference(images, seed, epoch, index, deviation):
    """The paper's formula on pixels in [0, 1], one sample, one component at a time."""
    images = images.double().clone()
    for sample, number in enumerate(index):
        colour = np.zeros(3)
        for component, alpha in enumerate(alphas(seed, epoch, number, deviation)):
            colour += np.array([row[component] for row in COMPONENTS]) * alpha * DEVIATIONS[component]
        for channel in range(3):
            images[sample, channel] += colour[channel] / STD[channel]
    return images


def test_equals_the_papers_formula():
    images = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([0, 3, 10**6, 7, 1, 2])
    result = lighting(images, 9, 4, index, deviation=0.1, std=STD)
    torch.testing.assert_close(result.double(), reference(images, 9, 4, index, 0.1), rtol=1e-5, atol=1e-6)
    assert result.dtype == torch.float32


def colors_of(components):
    """What is added to 50,000 black pictures: (50000, 3)."""
    options = {"deviation": 0.1, "std": (1, 1, 1), "components": components}
    return lighting(torch.zeros(50_000, 3, 1, 1), 0, 0, torch.arange(50_000), **options)[:, :, 0, 0]


def test_colours_vary_as_principal_components_do():
    colours = colors_of(COMPONENTS)
    components, deviations = torch.tensor(COMPONENTS), torch.tensor(DEVIATIONS)
    expected = components @ (0.1 * deviations).square().diag() @ components.T
    torch.testing.assert_close(colours.T.cov(), expected, rtol=0.03, atol=1e-6)
    assert colours.mean(0).abs().max() < 3e-4


def test_the_published_light_is_the_published_product_of_the_same_draws():
    index = torch.tensor([0, 3, 10**6, 7, 1, 2])
    options = {"deviation": PUBLISHED_DEVIATION, "std": STD, "components": PUBLISHED_COMPONENTS}
    result = lighting(torch.zeros(6, 3, 2, 1), 9, 4, index, **options).double().numpy()
    for added, number in zip(result, index, strict=True):
        expected = published_color(alphas(9, 4, number, 0.1)) / STD
        np.testing.assert_allclose(added, np.broadcast_to(expected[:, None, None], (3, 2, 1)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("components", "red_and_blue"), [(COMPONENTS, 0.98), (PUBLISHED_COMPONENTS, -0.97)])
def test_the_right_components_change_brightness_and_the_published_ones_colour(components, red_and_blue):
    colors = colors_of(components)
    assert colors.T.corrcoef()[0, 2] == pytest.approx(red_and_blue, abs=0.005)
    if red_and_blue < 0:
        expected = torch.from_numpy(EIG_VEC.T @ np.diag((0.1 * EIG_VAL) ** 2) @ EIG_VEC).float()
        torch.testing.assert_close(colors.T.cov(), expected, rtol=0.03, atol=1e-6)


def test_the_components_are_directions_at_right_angles():
    components = torch.tensor(COMPONENTS)
    torch.testing.assert_close(components.T @ components, torch.eye(3), rtol=0, atol=1e-3)


def test_leaves_its_input_alone_and_takes_an_empty_batch():
    images = torch.ones(2, 3, 2, 2)
    lighting(images, 0, 0, torch.arange(2), deviation=0.1, std=STD)
    assert torch.equal(images, torch.ones(2, 3, 2, 2))
    assert lighting(images[:0], 0, 0, torch.arange(0), deviation=0.1, std=STD).shape == (0, 3, 2, 2)
