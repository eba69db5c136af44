"""Residual networks for ImageNet: a stem and four stages of blocks, and a classifier of the average over the map."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.models.blocks import Conv, Layers, PreActivationBlock, ResidualBlock, basic, bottleneck, dilated
from switchnorm.models.parts import at_least_one, init_convolutions, stage

#: Blocks in each stage (He et al., CVPR 2016, table 1).
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
#: The depths whose blocks are bottlenecks.
BOTTLENECK_DEPTHS = (50, 101, 152)
#: Convolutions of the stem: the usual one, and those of the deep stem.
STEM, DEEP_STEM = (Conv(64, 7, 2),), (Conv(64, 3, 2), Conv(64, 3), Conv(128, 3))
#: Channels of the four stages, inside of their blocks.
WIDTHS = (64, 128, 256, 512)


class ResidualStages(nn.Module):
    """The stem and the four stages of a residual network.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1; with several groups: Xie et al.,
    "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, table 1. The stride of a bottleneck is
    that of its 3x3 convolution.

    Args:
        depth: 18, 34, 50, 101 or 152; several groups need one of the last three.
        layers: the normalization, its arguments, and what its modules are called.
        pool: the stem's pooling.
        groups: of the 3x3 convolutions in bottlenecks.
        width: channels of a group in the first stage; twice as many in each of the next.
        dilations: of the 3x3 convolutions of each stage; a stage with another than 1 keeps its maps' size.
        deep_stem: whether three 3x3 convolutions, which end with 128 channels, take the place of the one of 7x7, as in
            the encoders of CSAILVision/semantic-segmentation-pytorch (models/resnet.py).
        in_channels: of the pictures.

    Raises:
        InputError: another depth; no channels.
    """

    block: ClassVar[type[ResidualBlock] | type[PreActivationBlock]] = ResidualBlock

    def __init__(
        self,
        depth: int,
        layers: Layers,
        *,
        pool: nn.Module | None = None,
        groups: int = 1,
        width: int = WIDTHS[0],
        dilations: Sequence[int] = (1, 1, 1, 1),
        deep_stem: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        at_least_one(in_channels=in_channels)
        check_depth(depth, BLOCKS if groups == 1 else BOTTLENECK_DEPTHS)
        expansion = 4 if depth in BOTTLENECK_DEPTHS else 1
        #: Channels of the stages' maps.
        self.channels = tuple(channels * expansion for channels in WIDTHS)

        def block(dilation: int, in_channels: int, channels: int, stride: int) -> nn.Module:
            inner = channels // expansion * width * groups // WIDTHS[0]
            shapes = basic(channels, stride) if expansion == 1 else bottleneck(channels, stride, inner, groups)
            return self.block(in_channels, shapes if dilation == 1 else dilated(shapes, dilation), layers)

        #: Names of the stem's convolutions and their normalizations, in the order in which they run.
        self.stem_pairs: list[tuple[str, str]] = []
        for number, shape in enumerate(DEEP_STEM if deep_stem else STEM, 1):
            self.stem_pairs.append((f"conv{number}", layers.named(number)))
            conv, norm = self.stem_pairs[-1]
            self.add_module(conv, layers.conv(in_channels, shape))
            self.add_module(norm, layers.normalization(shape.channels))
            in_channels = shape.channels
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pool is None else pool
        first, second, third, fourth = self.channels
        counts, blocks = BLOCKS[depth], [partial(block, dilation) for dilation in dilations]
        self.layer1 = stage(blocks[0], in_channels, first, counts[0], 1)
        self.layer2 = stage(blocks[1], first, second, counts[1], 2)
        self.layer3 = stage(blocks[2], second, third, counts[2], 2)
        self.layer4 = stage(blocks[3], third, fourth, counts[3], 2)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, C, H / 4, W / 4), sides rounded up; C is 64, of a deep stem 128."""
        for conv, norm in self.stem_pairs:
            x = self.relu(getattr(self, norm)(getattr(self, conv)(x)))
        return self.maxpool(x)


class ResNet(ResidualStages):
    """A residual network with the normalization after each convolution: stages, and a classifier of their average.

    Convolutions start as `init_convolutions` draws them.

    Args:
        depth, layers, pool, groups, width, in_channels: as of `ResidualStages`.
        num_classes: the number of logits.
        dropout: the share of features that training drops before the classifier.
        last_gamma: whether the scale of the last normalization of each block starts at 0.

    Raises:
        InputError: another depth.
    """

    def __init__(
        self,
        depth: int,
        layers: Layers,
        *,
        num_classes: int,
        dropout: float = 0.0,
        pool: nn.Module | None = None,
        groups: int = 1,
        width: int = WIDTHS[0],
        last_gamma: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__(depth, layers, pool=pool, groups=groups, width=width, in_channels=in_channels)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.channels[-1], num_classes)
        init_convolutions(self)
        if last_gamma:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    module.zero_init_last()

    def features(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> the last stage's maps (N, C, H / 32, W / 32), sides rounded up."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        return self.fc(self.dropout(self.avgpool(self.features(x)).flatten(1)))


class PreActivationResNet(ResNet):
    """A residual network whose convolutions follow their normalization, with a last one before the average.

    He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016. As in the published SN networks, the stem is
    normalized and rectified itself. Arguments as of `ResNet`, without `last_gamma`: here a scale of 0 comes before a
    ReLU, which would leave the convolution behind it without a gradient for ever.
    """

    block = PreActivationBlock

    def __init__(
        self, depth: int, layers: Layers, *, num_classes: int, dropout: float = 0.0, in_channels: int = 3
    ) -> None:
        super().__init__(depth, layers, num_classes=num_classes, dropout=dropout, in_channels=in_channels)
        self.last_norm = f"{layers.label}_out"
        self.add_module(self.last_norm, layers.normalization(self.fc.in_features))

    def features(self, x: Tensor) -> Tensor:
        """As of `ResNet`, normalized and rectified."""
        return self.relu(getattr(self, self.last_norm)(super().features(x)))


def check_depth(depth: int, depths: Collection[int]) -> None:
    """Raise `InputError` for a depth that is not among `depths`, with the nearest one."""
    if depth not in depths:
        nearest = min(depths, key=lambda known: abs(known - depth))
        raise InputError(f"depth {depth} has no layout; the nearest valid depth is {nearest}")
