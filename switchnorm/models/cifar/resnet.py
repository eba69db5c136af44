"""Residual networks for small pictures.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which a 1x1 convolution projects where the shape changes.

    Args:
        in_channels, channels: of input and output.
        stride: of the first convolution.
        norm: the normalization of every convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Spec) -> None:
        super().__init__()
        conv = norm.conv()
        self.conv1 = conv(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = norm.layer(channels)
        self.conv2 = conv(channels, channels, 3, padding=1, bias=False)
        self.bn2 = norm.layer(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                conv(in_channels, channels, 1, stride, bias=False),
                norm.layer(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class CifarResNet(nn.Module):
    """A ResNet of depth 6n + 2: three stages of n basic blocks with 16, 32 and 64 channels.

    Modules are named as in the published CIFAR checkpoints.

    Args:
        depth: 6n + 2 for some n >= 1.
        norm: the normalization of every convolution.
        num_classes: the number of logits.
        in_channels: of the pictures.
        embedding: units of a normalized linear layer before the classifier; None for none, as published.

    Raises:
        InputError: a depth that is not 6n + 2.
    """

    def __init__(
        self, depth: int, *, norm: Spec, num_classes: int = 10, in_channels: int = 3, embedding: int | None = None
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            nearest = max(8, 6 * round((depth - 2) / 6) + 2)
            raise InputError(f"depth {depth} is not 6n + 2; the nearest valid depth is {nearest}")
        blocks = (depth - 2) // 6
        self.conv1 = norm.conv()(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = norm.layer(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, 1, norm)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, 2, norm)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, 2, norm)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.embedding = nn.Identity() if embedding is None else _embedding(WIDTHS[2], embedding, norm)
        self.fc = nn.Linear(embedding or WIDTHS[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.embedding(self.avgpool(x).flatten(1)))


def _embedding(features: int, units: int, norm: Spec) -> nn.Sequential:
    # What is normalized is flat: it has no instance statistic to choose.
    options = {"statistics": ("layer", "batch")} if norm.norm in ("sn", "ssn") else {}
    return nn.Sequential(
        nn.Linear(features, units, bias=False), norm.layer(units, dims=1, **options), nn.ReLU(inplace=True)
    )


def _stage(in_channels: int, channels: int, blocks: int, stride: int, norm: Spec) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, norm)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, norm) for _ in range(blocks - 1)))
