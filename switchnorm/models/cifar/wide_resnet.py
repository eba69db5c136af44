"""Wide residual networks: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, table 1 and figure 1(c, d)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from switchnorm.layers import Spec
from switchnorm.models.parts import (
    at_least_one,
    blocks_per_stage,
    check_dropout,
    convolution,
    init_convolutions,
    stage,
)


class WideBlock(nn.Module):
    """Two pre-activated 3x3 convolutions beside a shortcut.

    Where the number of channels changes, a 1x1 convolution of the normalized and rectified input is the shortcut.

    Args:
        in_channels, channels: of input and output.
        stride: of the first convolution; 1 where the numbers of channels are equal.
        norm: the normalization before every convolution.
        dropout: the share of values that is dropped before the second convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Spec, dropout: float) -> None:
        super().__init__()
        self.bn1 = norm.layer(in_channels)
        self.conv1 = convolution(norm, in_channels, channels, 3, stride)
        self.bn2 = norm.layer(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = convolution(norm, channels, channels, 3)
        self.relu = nn.ReLU(inplace=True)
        self.convShortcut: nn.Module | None = None
        if in_channels != channels:
            self.convShortcut = convolution(norm, in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        y = self.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(y)
        y = self.dropout(self.relu(self.bn2(self.conv1(y))))
        return self.conv2(y) + shortcut


class _Stage(nn.Module):
    """A stage whose blocks are called layer.0, layer.1, ..., as in the published checkpoints."""

    def __init__(self, layer: nn.Sequential) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class CifarWideResNet(nn.Module):
    """A WRN: three stages of n blocks with 16, 32 and 64 channels times the width.

    Modules are named as in the published PyTorch checkpoints. Convolutions start as `init_convolutions` draws them, the
    classifier's bias at 0.

    Args:
        depth: 6n + 4 for some n >= 1.
        width: the factor k of the channels.
        norm: the normalization before every convolution.
        num_classes: the number of logits.
        in_channels: of the pictures.
        dropout: in [0, 1), inside of every block; the paper takes 0.3.

    Raises:
        InputError: a depth that is not 6n + 4, a width below 1, or a dropout out of its range.
    """

    def __init__(
        self, depth: int, width: int, *, norm: Spec, num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        blocks = blocks_per_stage(depth, 2, 4)
        at_least_one(width=width, in_channels=in_channels)
        check_dropout(dropout, 0.3)
        make = partial(WideBlock, norm=norm, dropout=dropout)
        first, second, third = 16 * width, 32 * width, 64 * width
        self.conv1 = convolution(norm, in_channels, 16, 3)
        self.block1 = _Stage(stage(make, 16, first, blocks, 1))
        self.block2 = _Stage(stage(make, first, second, blocks, 2))
        self.block3 = _Stage(stage(make, second, third, blocks, 2))
        self.bn1 = norm.layer(third)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, num_classes)
        init_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.avgpool(self.relu(self.bn1(x))).flatten(1))
