from statistics import NormalDist

import numpy as np
import torch

from switchnorm.data.augment.lighting import COMPONENTS, DEVIATIONS, lighting
from switchnorm.data.counter import Stream, uniform

STD = (0.229, 0.224, 0.225)


def reference(images, seed, epoch, index, deviation):
    """The paper's formula on pixels in [0, 1], one sample, one component at a time."""
    images = images.double().clone()
    for sample, number in enumerate(index):
        colour = np.zeros(3)
        for component in range(3):
            u = float(uniform(seed, epoch, number, Stream.LIGHTING + component))
            alpha = NormalDist(0, deviation).inv_cdf(u + 2.0**-25)
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


def test_colours_vary_as_principal_components_do():
    colours = lighting(torch.zeros(50_000, 3, 1, 1), 0, 0, torch.arange(50_000), deviation=0.1, std=(1, 1, 1))[
        :, :, 0, 0
    ]
    components, deviations = torch.tensor(COMPONENTS), torch.tensor(DEVIATIONS)
    expected = components @ (0.1 * deviations).square().diag() @ components.T
    torch.testing.assert_close(colours.T.cov(), expected, rtol=0.03, atol=1e-6)
    assert colours.mean(0).abs().max() < 3e-4


def test_the_components_are_directions_at_right_angles():
    components = torch.tensor(COMPONENTS)
    torch.testing.assert_close(components.T @ components, torch.eye(3), rtol=0, atol=1e-3)


def test_leaves_its_input_alone_and_takes_an_empty_batch():
    images = torch.ones(2, 3, 2, 2)
    lighting(images, 0, 0, torch.arange(2), deviation=0.1, std=STD)
    assert torch.equal(images, torch.ones(2, 3, 2, 2))
    assert lighting(images[:0], 0, 0, torch.arange(0), deviation=0.1, std=STD).shape == (0, 3, 2, 2)
