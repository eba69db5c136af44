"""The feature pyramid: maps of one width at all strides (Lin et al., "Feature Pyramid Networks", CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.layers import Spec
from switchnorm.models.parts import convolution


def normalized(norm: Spec | None, in_channels: int, channels: int, kernel: int) -> list[nn.Module]:
    """A convolution that keeps a map's size and its normalization; with a bias in place of that where it is None."""
    if norm is None:
        return [nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)]
    return [convolution(norm, in_channels, channels, kernel), norm.layer(channels)]


def rectified(norm: Spec | None, in_channels: int, channels: int, kernel: int) -> list[nn.Module]:
    """As `normalized`, and ReLU."""
    return [*normalized(norm, in_channels, channels, kernel), nn.ReLU(inplace=True)]


def init_uniform(module: nn.Module) -> None:
    """Draw weights of convolutions and linear layers from U(-b, b), b² = 3 / fan_in, biases 0 (Caffe2's XavierFill)."""
    for each in module.modules():
        if isinstance(each, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(each.weight, a=1)
            if each.bias is not None:
                nn.init.zeros_(each.bias)


class Pyramid(nn.Module):
    """1x1 convolutions of all stages, summed up from the coarsest to the finest, and a 3x3 convolution of each sum.

    A normalization follows each convolution, and no ReLU.

    Args:
        channels: of the stages' maps, C2 to C5.
        width: channels of all maps that are made.
        norm: the normalization; None for convolutions with a bias.
    """

    def __init__(self, channels: Sequence[int], width: int, norm: Spec | None) -> None:
        super().__init__()
        self.width = width
        self.lateral = nn.ModuleList(nn.Sequential(*normalized(norm, each, width, 1)) for each in channels)
        self.output = nn.ModuleList(nn.Sequential(*normalized(norm, width, width, 3)) for _ in channels)
        init_uniform(self)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """The maps of the stages -> "p2" ... "p5", (N, width, h, w) each, at their strides."""
        sums = [lateral(each) for lateral, each in zip(self.lateral, maps, strict=True)]
        for finer in range(len(sums) - 2, -1, -1):
            above = F.interpolate(sums[finer + 1], size=sums[finer].shape[-2:], mode="nearest")
            sums[finer] = sums[finer] + above
        return {
            f"p{level}": output(each) for level, (output, each) in enumerate(zip(self.output, sums, strict=True), 2)
        }


def coarser(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same maps, and "p6": every second pixel of the last."""
    return {**maps, "p6": F.max_pool2d(maps["p5"], 1, 2)}
