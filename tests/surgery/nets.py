"""Small networks for the tests, defined in a module so that they can be pickled."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def small_net(norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    """Two convolutions with normalization, and a classifier; running statistics and parameters are not trivial."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 12, 3), norm(12), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
    )
    net(torch.randn(4, 3, 8, 8))
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    return net


class SqueezeExcite(nn.Module):
    """Conv, norm, and a gate from two 1x1 convolutions, the first of which equals the norm's channels."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.bn = nn.BatchNorm2d(channels)
        self.reduce = nn.Conv2d(channels, channels, 1)
        self.expand = nn.Conv2d(channels, channels, 1)
        self.after = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x)).relu()
        gate = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.after(x * gate)


class PreActivation(nn.Module):
    """Two pre-activation blocks: every convolution but the head feeds a norm, through sums, pooling and a scale."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, 4, 1)
        self.final = nn.BatchNorm2d(channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))
            for _ in range(2)
        )
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.stem = nn.Conv2d(3, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.stem(x), 2)
        for block in self.blocks:
            x = x + self.scale * block(x)
        return self.head(torch.relu(self.final(x)))


class DataDependent(nn.Module):
    """Control flow that depends on values, which symbolic tracing cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 4, 1)
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        x = self.bn(self.conv(x))
        return self.head(x) if x.sum() > 0 else self.head(-x)


class OwnForward(nn.BatchNorm2d):
    """A subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class NoForward(nn.BatchNorm2d):
    """A subclass that computes the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)


def cancel(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """A forward hook that shows."""
    return output * 0
