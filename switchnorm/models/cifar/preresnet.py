"""Residual networks whose convolutions follow their normalization.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, figure 1(b) and appendix.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from torch import Tensor, nn

from switchnorm.layers import Spec
from switchnorm.models.cifar.resnet import WIDTHS
from switchnorm.models.parts import at_least_one, blocks_per_stage, convolution, init_convolutions, projection, stage


class PreActivatedBasicBlock(nn.Module):
    """Two 3x3 convolutions, each after a normalization and a ReLU, beside a shortcut that nothing rectifies.

    Args:
        in_channels, channels: of input and output.
        stride: of the first convolution.
        norm: the normalization before every convolution.
    """

    expansion: ClassVar[int] = 1
    layers: ClassVar[int] = 2

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Spec) -> None:
        super().__init__()
        self.bn1 = norm.layer(in_channels)
        self.conv1 = convolution(norm, in_channels, channels, 3, stride)
        self.bn2 = norm.layer(channels)
        self.conv2 = convolution(norm, channels, channels, 3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(norm, in_channels, channels, stride, normalized=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.conv1(self.relu(self.bn1(x)))
        return self.conv2(self.relu(self.bn2(y))) + shortcut


class PreActivatedBottleneck(nn.Module):
    """A 3x3 convolution on a quarter of the output's channels, between two of 1x1, all pre-activated.

    Arguments as of `PreActivatedBasicBlock`; the stride is that of the 3x3 convolution.
    """

    expansion: ClassVar[int] = 4
    layers: ClassVar[int] = 3

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Spec) -> None:
        super().__init__()
        width = channels // self.expansion
        self.bn1 = norm.layer(in_channels)
        self.conv1 = convolution(norm, in_channels, width, 1)
        self.bn2 = norm.layer(width)
        self.conv2 = convolution(norm, width, width, 3, stride)
        self.bn3 = norm.layer(width)
        self.conv3 = convolution(norm, width, channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(norm, in_channels, channels, stride, normalized=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        return self.conv3(self.relu(self.bn3(y))) + shortcut


class CifarPreResNet(nn.Module):
    """A pre-activation ResNet: three stages of n blocks, on 16, 32 and 64 channels.

    Modules are named as in the published CIFAR checkpoints, and as there a projection takes a block's input as it
    comes, neither normalized nor rectified. Convolutions start as `init_convolutions` draws them.

    Args:
        depth: 6n + 2 with basic blocks, 9n + 2 with bottlenecks, for some n >= 1.
        block: "bottleneck", or None for basic blocks; as of `CifarResNet`.
        norm: the normalization before every convolution.
        num_classes: the number of logits.
        in_channels: of the pictures.

    Raises:
        InputError: a depth that no number of blocks makes; no channels.
    """

    def __init__(
        self,
        depth: int,
        block: Literal["bottleneck"] | None = None,
        *,
        norm: Spec,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        at_least_one(in_channels=in_channels)
        kind: type[PreActivatedBasicBlock] | type[PreActivatedBottleneck]
        kind = PreActivatedBottleneck if block else PreActivatedBasicBlock
        blocks = blocks_per_stage(depth, kind.layers, 2)
        make = partial(kind, norm=norm)
        first, second, third = (width * kind.expansion for width in WIDTHS)
        self.conv1 = convolution(norm, in_channels, WIDTHS[0], 3)
        self.layer1 = stage(make, WIDTHS[0], first, blocks, 1)
        self.layer2 = stage(make, first, second, blocks, 2)
        self.layer3 = stage(make, second, third, blocks, 2)
        self.bn = norm.layer(third)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.avgpool(self.relu(self.bn(x))).flatten(1))
