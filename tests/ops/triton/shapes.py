"""The shapes of networks, as their normalization layers see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Layer(NamedTuple):
    """An input (N, C, H, W), and whether ReLU follows, after a residual was added."""

    samples: int
    channels: int
    height: int
    width: int
    relu: bool
    residual: bool


def resnet50(samples: int, height: int, width: int, *, dilated: bool = False) -> Iterator[Layer]:
    """The layers of a ResNet-50; dilated: stages 4 and 5 at a stride of 8, as DeepLab has them."""

    def layer(channels: int, stride: int, relu: bool = True, residual: bool = False) -> Layer:
        return Layer(samples, channels, -(-height // stride), -(-width // stride), relu, residual)

    yield layer(64, 2)
    before = 4
    for channels, stride in ((64, 4), (128, 8), (256, 8 if dilated else 16), (512, 8 if dilated else 32)):
        yield layer(channels, before)
        yield layer(channels, stride)
        yield layer(4 * channels, stride, residual=True)
        yield layer(4 * channels, stride, relu=False)
        before = stride


def detector(samples: int, height: int, width: int) -> Iterator[Layer]:
    """ResNet-50, and a pyramid of 256 channels without ReLU."""
    yield from resnet50(samples, height, width)
    for stride in (4, 8, 16, 32, 64):
        yield Layer(samples, 256, -(-height // stride), -(-width // stride), False, False)
