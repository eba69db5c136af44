"""Densely connected networks with bottlenecks and compression (DenseNet-BC) for small pictures.

Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, section 3.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec
from switchnorm.models.parts import (
    SmallestSide,
    at_least_one,
    blocks_per_stage,
    check_dropout,
    convolution,
    init_convolutions,
)

#: Channels inside of a layer, in units of the growth.
BOTTLENECK = 4


class DenseLayer(nn.Module):
    """Appends `growth` channels: a pre-activated 1x1 convolution to `BOTTLENECK` times the growth, then one of 3x3.

    Args:
        in_channels: of the input.
        growth: channels that it adds.
        norm: the normalization before every convolution.
        dropout: the share of the new values that training drops.
    """

    def __init__(self, in_channels: int, growth: int, norm: Spec, dropout: float = 0.0) -> None:
        super().__init__()
        inner = BOTTLENECK * growth
        self.bn1 = norm.layer(in_channels)
        self.conv1 = convolution(norm, in_channels, inner, 1)
        self.bn2 = norm.layer(inner)
        self.conv2 = convolution(norm, inner, growth, 3)
        self.dropout = nn.Dropout(dropout)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, in_channels + growth, H, W)."""
        y = self.conv1(self.relu(self.bn1(x)))
        return torch.cat((x, self.dropout(self.conv2(self.relu(self.bn2(y))))), 1)


class Transition(nn.Module):
    """A pre-activated 1x1 convolution to fewer channels, and average pooling to half the size.

    Args:
        in_channels, channels: of input and output.
        norm: the normalization before the convolution.
    """

    def __init__(self, in_channels: int, channels: int, norm: Spec) -> None:
        super().__init__()
        self.bn1 = norm.layer(in_channels)
        self.conv1 = convolution(norm, in_channels, channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / 2, W / 2)."""
        return self.pool(self.conv1(self.relu(self.bn1(x))))


class CifarDenseNet(nn.Module):
    """A DenseNet-BC: three dense blocks of n layers, with transitions between them.

    Modules are named as in the published CIFAR checkpoints. Convolutions start as `init_convolutions` draws them.

    Args:
        depth: 6n + 4 for some n >= 1.
        growth: channels that each layer adds; the first convolution makes twice as many.
        norm: the normalization before every convolution.
        num_classes: the number of logits.
        in_channels: of the pictures.
        compression: in (0, 1], the share of channels that a transition keeps, rounded down; as text a fraction, such as
            "1/3", which no decimal number is.
        dropout: in [0, 1), the share of values that training drops of what each layer appends; the paper takes 0.2
            where pictures are not augmented.

    Raises:
        InputError: a depth that is not 6n + 4, a growth below 1, a dropout out of its range, or a compression that is
            out of its range or keeps no channel.
    """

    def __init__(
        self,
        depth: int,
        growth: int,
        *,
        norm: Spec,
        num_classes: int = 10,
        in_channels: int = 3,
        compression: float | str = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers = blocks_per_stage(depth, 2, 4)
        at_least_one(growth=growth, in_channels=in_channels)
        check_dropout(dropout, 0.2)
        self.smallest = SmallestSide(4)
        channels = 2 * growth
        self.conv1 = convolution(norm, in_channels, channels, 3)
        self.dense1, channels = _dense(channels, growth, layers, norm, dropout)
        self.trans1, channels = _transition(channels, compression, norm)
        self.dense2, channels = _dense(channels, growth, layers, norm, dropout)
        self.trans2, channels = _transition(channels, compression, norm)
        self.dense3, channels = _dense(channels, growth, layers, norm, dropout)
        self.bn = norm.layer(channels)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W), of 4x4 or more -> logits (N, num_classes)."""
        x = self.conv1(self.smallest(x))
        x = self.trans1(self.dense1(x))
        x = self.trans2(self.dense2(x))
        x = self.relu(self.bn(self.dense3(x)))
        return self.fc(self.avgpool(x).flatten(1))


def _dense(channels: int, growth: int, layers: int, norm: Spec, dropout: float) -> tuple[nn.Sequential, int]:
    """A dense block, and the channels after it."""
    block = nn.Sequential(*(DenseLayer(channels + i * growth, growth, norm, dropout) for i in range(layers)))
    return block, channels + layers * growth


def _transition(channels: int, compression: float | str, norm: Spec) -> tuple[Transition, int]:
    """A transition, and the channels after it."""
    kept = compressed(channels, compression)
    return Transition(channels, kept, norm), kept


def compressed(channels: int, compression: float | str) -> int:
    """How many of `channels` a transition keeps: the share `compression` as it is written, rounded down."""
    # By fractions: as a float, 0.29 * 100 is a little less than 29, and rounding down would keep 28.
    kept = math.floor(_share(compression) * channels)
    if kept < 1:
        raise InputError(
            f"compression {compression!r} keeps none of {channels} channels; the nearest that keeps one is "
            f"{math.ceil(1000 / channels) / 1000}"
        )
    return kept


def _share(compression: float | str) -> Fraction:
    """A number, or a fraction as text, as it is written; raise `InputError` outside of (0, 1]."""
    try:
        share = None if isinstance(compression, bool) else Fraction(str(compression))
    except (ValueError, ZeroDivisionError):
        share = None
    if share is None or not 0 < share <= 1:
        valid = "the nearest valid number is 1" if share is not None and share > 1 else "the paper's is 0.5"
        raise InputError(f"compression {compression!r} is outside (0, 1]; {valid}")
    return share
