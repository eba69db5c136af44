"""VGG networks for small pictures, with or without normalization.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1,
configurations A, B, D and E, with one linear layer instead of three, since a map of 32x32 ends as 1x1.
"""

from __future__ import annotations

from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec
from switchnorm.models.parts import PlainNetwork, at_least_one, convolution, init_convolutions

#: Convolutions of the five stages, by depth.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class CifarVGG(PlainNetwork):
    """A VGG: five stages of 3x3 convolutions, each with a normalization and a ReLU, and max pooling after each stage.

    Pictures are 32x32 or larger. Modules are named as in the published CIFAR checkpoints. Convolutions have a bias, as
    there, and start as `init_convolutions` draws them, the classifier from N(0, 0.01²) with a bias of 0.

    Args:
        depth: 11, 13, 16 or 19; as the paper counts, so the two linear layers that are left out here included.
        norm: the normalization of every convolution; None for none, as in the paper.
        num_classes: the number of logits.
        in_channels: of the pictures.

    Raises:
        InputError: another depth.
    """

    def __init__(self, depth: int, *, norm: Spec | None, num_classes: int = 10, in_channels: int = 3) -> None:
        at_least_one(in_channels=in_channels)
        if depth not in CONVOLUTIONS:
            nearest = min(CONVOLUTIONS, key=lambda valid: abs(valid - depth))
            raise InputError(f"depth {depth} is not one of VGG's; the nearest valid depth is {nearest}")
        super().__init__(_features(CONVOLUTIONS[depth], norm, in_channels), WIDTHS[-1], 32, num_classes)
        init_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)


def _features(convolutions: tuple[int, ...], norm: Spec | None, channels: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for width, count in zip(WIDTHS, convolutions, strict=True):
        for _ in range(count):
            if norm is None:
                modules.append(nn.Conv2d(channels, width, 3, padding=1))
            else:
                modules += (convolution(norm, channels, width, 3, bias=True), norm.layer(width))
            modules.append(nn.ReLU(inplace=True))
            channels = width
        modules.append(nn.MaxPool2d(2))
    return nn.Sequential(*modules)
