"""Which tensors networks normalize, and which weights they standardize."""

from __future__ import annotations

import functools

import torch
import torchvision
from torch import Tensor, nn

Shape = tuple[int, ...]

#: Sizes in which detectors and segmenters see pictures; strides and channels of a ResNet's stages.
PICTURES = ((800, 1344), (512, 512))
STAGES = ((4, 256), (8, 512), (16, 1024), (32, 2048))


def detection_shapes() -> list[Shape]:
    """Inputs of normalizations at 2 samples per device."""
    return [
        (2, channels, height // stride, width // stride) for height, width in PICTURES for stride, channels in STAGES
    ]


def resnet50_shapes(batch: int) -> list[Shape]:
    """Every shape that ResNet-50 normalizes at 224 x 224, once, in the order of its depth."""
    return list(dict.fromkeys((batch, *shape[1:]) for _, shape in resnet50_inputs(nn.BatchNorm2d)))


@functools.cache
def resnet50_inputs(kind: type[nn.Module]) -> list[tuple[nn.Module, Shape]]:
    """The layers of a kind in ResNet-50, weights on the meta device, and the shape of a 224 x 224 picture there."""
    found: list[tuple[nn.Module, Shape]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append((layer, tuple(inputs[0].shape)))

    with torch.device("meta"), torch.no_grad():
        network = torchvision.models.resnet50()
        for layer in network.modules():
            if isinstance(layer, kind):
                layer.register_forward_pre_hook(note)
        network(torch.empty(1, 3, 224, 224))
    return found
