"""Residual networks for small pictures.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2; the bottleneck block: figure 5.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from switchnorm.layers import Spec
from switchnorm.models.blocks import Layers, ResidualBlock, basic, bottleneck
from switchnorm.models.parts import at_least_one, blocks_per_stage, convolution, init_convolutions, stage

#: Channels of the three stages, inside of their blocks.
WIDTHS = (16, 32, 64)


class CifarResNet(nn.Module):
    """A ResNet: three stages of n blocks, on 16, 32 and 64 channels.

    Modules are named as in the published CIFAR checkpoints. Convolutions start as `init_convolutions` draws them.

    Args:
        depth: 6n + 2 with basic blocks, 9n + 2 with bottlenecks, for some n >= 1.
        block: "bottleneck" for blocks of three convolutions with four times the channels at their ends; None for basic
            blocks.
        norm: the normalization of every convolution.
        num_classes: the number of logits.
        in_channels: of the pictures.
        embedding: units of a normalized linear layer before the classifier; None for none, as published.

    Raises:
        InputError: a depth that no number of blocks makes; no channels or units.
    """

    def __init__(
        self,
        depth: int,
        block: Literal["bottleneck"] | None = None,
        *,
        norm: Spec,
        num_classes: int = 10,
        in_channels: int = 3,
        embedding: int | None = None,
    ) -> None:
        super().__init__()
        blocks = blocks_per_stage(depth, 3 if block else 2, 2)
        at_least_one(in_channels=in_channels, embedding=1 if embedding is None else embedding)
        expansion = 4 if block else 1
        layers = Layers(norm)

        def make(in_channels: int, channels: int, stride: int) -> ResidualBlock:
            shapes = bottleneck(channels, stride, channels // expansion) if block else basic(channels, stride)
            return ResidualBlock(in_channels, shapes, layers)

        first, second, third = (width * expansion for width in WIDTHS)
        self.conv1 = convolution(norm, in_channels, WIDTHS[0], 3)
        self.bn1 = norm.layer(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(make, WIDTHS[0], first, blocks, 1)
        self.layer2 = stage(make, first, second, blocks, 2)
        self.layer3 = stage(make, second, third, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.embedding = nn.Identity() if embedding is None else _embedding(third, embedding, norm)
        self.fc = nn.Linear(embedding or third, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.embedding(self.avgpool(x).flatten(1)))


def _embedding(features: int, units: int, norm: Spec) -> nn.Sequential:
    normalization = norm.layer(units, dims=1, flat=True)
    return nn.Sequential(nn.Linear(features, units, bias=False), normalization, nn.ReLU(inplace=True))
