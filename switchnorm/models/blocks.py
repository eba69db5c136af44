"""Residual blocks for any normalization, under the names that published checkpoints give their modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec, scale_of
from switchnorm.models.parts import convolution


@dataclass(frozen=True)
class Layers:
    """What the blocks of a network are made of.

    Attributes:
        norm: the normalization.
        label: what its modules are called, before their number: "bn" or "sn".
    """

    norm: Spec
    label: str = "bn"

    def conv(self, in_channels: int, shape: Conv) -> nn.Module:
        """A convolution of a shape, as the normalization asks for it."""
        channels, kernel, stride, groups, dilation = shape
        return convolution(self.norm, in_channels, channels, kernel, stride, groups, dilation=dilation)

    def normalization(self, channels: int) -> nn.Module:
        """A normalization of a number of channels."""
        return self.norm.layer(channels)

    def named(self, number: int) -> str:
        """The name of a normalization."""
        return f"{self.label}{number}"


class Conv(NamedTuple):
    """The shape of a convolution without bias that keeps a map's size, or divides it by the stride.

    Attributes:
        channels: of its output.
        kernel: its side, an odd number.
        stride, groups, dilation: as of torch.nn.Conv2d.
    """

    channels: int
    kernel: int
    stride: int = 1
    groups: int = 1
    dilation: int = 1


def basic(channels: int, stride: int) -> tuple[Conv, ...]:
    """Two 3x3 convolutions (He et al., CVPR 2016, figure 5 left)."""
    return Conv(channels, 3, stride), Conv(channels, 3)


def bottleneck(channels: int, stride: int, width: int, groups: int = 1) -> tuple[Conv, ...]:
    """A 3x3 convolution on `width` channels between two of 1x1 (He et al., CVPR 2016, figure 5 right).

    With several groups it is the block of Xie et al., "Aggregated Residual Transformations for Deep Neural Networks",
    CVPR 2017, figure 3(c). The stride is that of the 3x3 convolution.
    """
    return Conv(width, 1), Conv(width, 3, stride, groups), Conv(channels, 1)


def dilated(shapes: Sequence[Conv], dilation: int) -> tuple[Conv, ...]:
    """The same convolutions where strides are given up for dilation, so that maps keep their size.

    Yu et al., "Dilated Residual Networks", CVPR 2017, section 2; a convolution that had the stride has, as in the
    published segmentation networks, only half the dilation.
    """
    return tuple(
        shape._replace(stride=1, dilation=dilation // shape.stride if shape.kernel > 1 else 1) for shape in shapes
    )


class _Block(nn.Module):
    """Convolutions beside a shortcut; a normalization belongs to each.

    Args:
        in_channels: of the input.
        shapes: of the convolutions.
        layers: what they and the normalizations are.
    """

    def __init__(self, in_channels: int, shapes: Sequence[Conv], layers: Layers) -> None:
        super().__init__()
        #: Names of convolutions and their normalizations, in the order in which they run.
        self.pairs = [(f"conv{number}", layers.named(number)) for number, _ in enumerate(shapes, 1)]
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None

    def pair(self, index: int) -> tuple[nn.Module, nn.Module]:
        """A convolution and its normalization."""
        conv, norm = self.pairs[index]
        return getattr(self, conv), getattr(self, norm)


class ResidualBlock(_Block):
    """Convolution, normalization, ReLU, and so on; the last ReLU follows the sum with the shortcut.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. Where the shape changes, the shortcut is a
    normalized 1x1 convolution. Arguments as of `_Block`.
    """

    def __init__(self, in_channels: int, shapes: Sequence[Conv], layers: Layers) -> None:
        super().__init__(in_channels, shapes, layers)
        channels = in_channels
        for shape, (conv, norm) in zip(shapes, self.pairs, strict=True):
            self.add_module(conv, layers.conv(channels, shape))
            self.add_module(norm, layers.normalization(shape.channels))
            channels = shape.channels
        if (shortcut := _shortcut(in_channels, shapes)) is not None:
            self.downsample = nn.Sequential(layers.conv(in_channels, shortcut), layers.normalization(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        for index in range(len(self.pairs) - 1):
            conv, norm = self.pair(index)
            x = self.relu(norm(conv(x)))
        conv, norm = self.pair(-1)
        return self.relu(norm(conv(x)) + shortcut)

    def zero_init_last(self) -> None:
        """Set the scale of the last normalization to 0, so that at first the block passes its shortcut on alone.

        Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", section 5.1.

        Raises:
            InputError: a normalization without a scale.
        """
        _, norm = self.pair(-1)
        scale = scale_of(norm)
        if scale is None:
            raise InputError(
                f"last_gamma sets the scale of {type(norm).__name__} to 0, which has none; use last_gamma=False"
            )
        nn.init.zeros_(scale)


class PreActivationBlock(_Block):
    """Normalization, ReLU, convolution, and so on, beside a shortcut that nothing rectifies.

    He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, figure 1(b). Where the shape changes, the
    shortcut is a 1x1 convolution of the first ReLU's output. Arguments as of `_Block`.
    """

    def __init__(self, in_channels: int, shapes: Sequence[Conv], layers: Layers) -> None:
        super().__init__(in_channels, shapes, layers)
        channels = in_channels
        for shape, (conv, norm) in zip(shapes, self.pairs, strict=True):
            self.add_module(norm, layers.normalization(channels))
            self.add_module(conv, layers.conv(channels, shape))
            channels = shape.channels
        if (shortcut := _shortcut(in_channels, shapes)) is not None:
            self.downsample = layers.conv(in_channels, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        conv, norm = self.pair(0)
        y = self.relu(norm(x))
        shortcut = x if self.downsample is None else self.downsample(y)
        y = conv(y)
        for index in range(1, len(self.pairs)):
            conv, norm = self.pair(index)
            y = conv(self.relu(norm(y)))
        return y + shortcut


def _shortcut(in_channels: int, shapes: Sequence[Conv]) -> Conv | None:
    """The 1x1 convolution that a shortcut needs to reach the shape of the block's output; None where it has it."""
    stride = max(shape.stride for shape in shapes)
    channels = shapes[-1].channels
    return None if stride == 1 and channels == in_channels else Conv(channels, 1, stride)
