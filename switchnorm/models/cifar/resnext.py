"""Aggregated residual networks for small pictures.

Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, section 5.3 and figure 3(c).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from switchnorm.layers import Spec
from switchnorm.models.parts import at_least_one, blocks_per_stage, convolution, init_convolutions

#: Channels at the end of the three stages.
CHANNELS = (256, 512, 1024)


class AggregatedBlock(nn.Module):
    """A grouped 3x3 convolution between two of 1x1, beside a shortcut that is projected where the shape changes.

    Args:
        in_channels, channels: of input and output.
        stride: of the 3x3 convolution.
        cardinality: its groups.
        width: channels of a group.
        norm: the normalization of every convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, cardinality: int, width: int, norm: Spec) -> None:
        super().__init__()
        inner = cardinality * width
        self.conv_reduce = convolution(norm, in_channels, inner, 1)
        self.bn_reduce = norm.layer(inner)
        self.conv_conv = convolution(norm, inner, inner, 3, stride, cardinality)
        self.bn = norm.layer(inner)
        self.conv_expand = convolution(norm, inner, channels, 1)
        self.bn_expand = norm.layer(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if in_channels != channels:
            self.shortcut.add_module("shortcut_conv", convolution(norm, in_channels, channels, 1, stride))
            self.shortcut.add_module("shortcut_bn", norm.layer(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        shortcut = self.shortcut(x)
        y = self.relu(self.bn_reduce(self.conv_reduce(x)))
        y = self.relu(self.bn(self.conv_conv(y)))
        return self.relu(self.bn_expand(self.conv_expand(y)) + shortcut)


class CifarResNeXt(nn.Module):
    """A ResNeXt: three stages of n blocks that end with 256, 512 and 1024 channels.

    Modules are named as in the published CIFAR checkpoints. Convolutions start as `init_convolutions` draws them, the
    classifier from N(0, 2 / 1024) with a bias of 0.

    Args:
        depth: 9n + 2 for some n >= 1.
        cardinality: groups of the 3x3 convolutions.
        width: channels of a group in the first stage; twice and four times as many in the next.
        norm: the normalization of every convolution.
        num_classes: the number of logits.
        in_channels: of the pictures.

    Raises:
        InputError: a depth that is not 9n + 2, or a cardinality or width below 1.
    """

    def __init__(
        self, depth: int, cardinality: int, width: int, *, norm: Spec, num_classes: int = 10, in_channels: int = 3
    ) -> None:
        super().__init__()
        blocks = blocks_per_stage(depth, 3, 2)
        at_least_one(cardinality=cardinality, width=width, in_channels=in_channels)

        def stage(number: int, in_channels: int, stride: int) -> nn.Sequential:
            channels, inner = CHANNELS[number - 1], width * 2 ** (number - 1)
            named: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(blocks):
                named[f"stage_{number}_bottleneck_{block}"] = AggregatedBlock(
                    channels if block else in_channels, channels, 1 if block else stride, cardinality, inner, norm
                )
            return nn.Sequential(named)

        self.conv_1_3x3 = convolution(norm, in_channels, 64, 3)
        self.bn_1 = norm.layer(64)
        self.relu = nn.ReLU(inplace=True)
        self.stage_1 = stage(1, 64, 1)
        self.stage_2 = stage(2, CHANNELS[0], 2)
        self.stage_3 = stage(3, CHANNELS[1], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(CHANNELS[2], num_classes)
        init_convolutions(self)
        nn.init.kaiming_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.relu(self.bn_1(self.conv_1_3x3(x)))
        x = self.stage_3(self.stage_2(self.stage_1(x)))
        return self.classifier(self.avgpool(x).flatten(1))
