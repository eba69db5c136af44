"""Changes of a whole picture's light along the principal components of ImageNet's colours."""

from __future__ import annotations

import torch
from torch import Tensor

from switchnorm.data.counter import Stream, normal

Components = tuple[tuple[float, float, float], ...]

#: Deviation of ImageNet's red, green and blue, for pixels in [0, 1], along each of their principal components ...
DEVIATIONS = (0.2175, 0.0188, 0.0045)
#: ... and the components: a row per colour, a column per component. The first is brightness.
COMPONENTS: Components = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

#: What SN and SSN were trained with (`ColorAugmentation` in the published code of both): the paper's deviation, and the
#: matrix of the components applied transposed. The first is no brightness then: red and green rise as blue falls.
PUBLISHED_DEVIATION = 0.1
PUBLISHED_COMPONENTS: Components = ((0.4009, -0.8140, 0.4203), (0.7192, -0.0045, -0.6948), (-0.5675, -0.5808, -0.5836))


def lighting(
    images: Tensor,
    seed: int,
    pass_index: int,
    index: Tensor,
    *,
    deviation: float,
    std: tuple[float, ...],
    components: Components = COMPONENTS,
) -> Tensor:
    """Add one colour to every pixel of a picture: each principal component times its deviation times a normal number.

    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section
    4.1. Components and deviations are the values that most published code has. Pixels are not clipped.

    Args:
        images: (N, 3, H, W), normalized, red, green, blue.
        seed: the run's seed.
        pass_index: the pass over the data.
        index: (N,) int64, the samples' places in the dataset, best on the CPU, where the colours are computed.
        deviation: of the normal numbers; 0.1 in the paper.
        std: what normalization divided by, for pixels in [0, 1].
        components: a row per colour, a column per component; `COMPONENTS` or `PUBLISHED_COMPONENTS`.

    Returns:
        (N, 3, H, W), new.
    """
    scaled = deviation * torch.tensor(components) * torch.tensor(DEVIATIONS) / torch.tensor(std)[:, None]
    color = torch.zeros(len(index), 3, device=index.device)
    for component in range(3):  # no matrix product, which rounds by the size of the batch
        alpha = normal(seed, pass_index, index, Stream.LIGHTING + component)
        color += alpha[:, None] * scaled[:, component].to(index.device)
    return images + color[:, :, None, None].to(images.device, images.dtype)
