"""What networks share: convolutions, stages, depths, and checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec


def convolution(
    norm: Spec,
    in_channels: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    dilation: int = 1,
) -> nn.Module:
    """A convolution that feeds a normalization and keeps a map's size, or divides it by the stride.

    Args:
        norm: the normalization that it feeds.
        in_channels, channels: of input and output.
        kernel: its side, an odd number.
        stride, groups, bias, dilation: as of torch.nn.Conv2d.
    """
    shape = {"padding": dilation * (kernel // 2), "dilation": dilation}
    return norm.conv()(in_channels, channels, kernel, stride, groups=groups, bias=bias, **shape)


def rectified(norm: Spec, in_channels: int, channels: int, kernel: int) -> nn.Sequential:
    """A convolution that keeps a map's size, its normalization, and ReLU."""
    return nn.Sequential(convolution(norm, in_channels, channels, kernel), norm.layer(channels), nn.ReLU(inplace=True))


def projection(norm: Spec, in_channels: int, channels: int, stride: int, *, normalized: bool) -> nn.Sequential | None:
    """The shortcut of a block: a 1x1 convolution, normalized or not; None where x already has the shape."""
    if stride == 1 and in_channels == channels:
        return None
    projected = convolution(norm, in_channels, channels, 1, stride)
    return nn.Sequential(projected, norm.layer(channels)) if normalized else nn.Sequential(projected)


def stage(
    block: Callable[[int, int, int], nn.Module], in_channels: int, channels: int, blocks: int, stride: int
) -> nn.Sequential:
    """Blocks one after another, made by `block(in_channels, channels, stride)`; the first alone has the stride."""
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(blocks - 1)))


def blocks_per_stage(depth: int, layers: int, others: int) -> int:
    """How many blocks make each of three stages.

    Args:
        depth: the layers with weights, as the network's paper counts them.
        layers: of a block.
        others: layers outside of the blocks.

    Raises:
        InputError: a depth that no number of blocks makes, with the nearest that one does.
    """
    period = 3 * layers
    blocks, rest = divmod(depth - others, period)
    if rest or blocks < 1:
        nearest = period * max(1, round((depth - others) / period)) + others
        least = "" if rest else " with n >= 1"
        raise InputError(f"depth {depth} is not {period}n + {others}{least}; the nearest valid depth is {nearest}")
    return blocks


def at_least_one(**numbers: Any) -> None:
    """Raise `InputError` naming the first of `numbers` that is not an integer of 1 or more."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name} {number!r} is impossible; the nearest valid number is 1")


def is_number(value: Any) -> bool:
    """Whether an option is a number, which a bool is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_dropout(dropout: Any, usual: float) -> None:
    """Raise `InputError` for a share of values to drop that is no number in [0, 1), with the paper's, the `usual`."""
    if not is_number(dropout) or not 0 <= dropout < 1:
        below = is_number(dropout) and dropout < 0
        valid = "the nearest valid number is 0" if below else f"the paper's is {usual}"
        raise InputError(f"dropout {dropout!r} is outside [0, 1); {valid}")


def init_convolutions(
    model: nn.Module, mode: Literal["fan_out", "fan_in"] = "fan_out", *, zero_biases: bool = True
) -> None:
    """Draw the weights of convolutions from N(0, 2 / (kernel² · channels)); set their biases to 0.

    He et al., "Delving Deep into Rectifiers", ICCV 2015, section 2.2.

    Args:
        model: whose convolutions.
        mode: which channels count: "fan_out" the output's, the backward case; "fan_in" the input's, the forward case.
        zero_biases: whether biases become 0; else they stay as they are.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if zero_biases and module.bias is not None:
                nn.init.zeros_(module.bias)


class SmallestSide(nn.Module):
    """Passes pictures on, unless they are so small that nothing would be left of them.

    Args:
        side: the smallest height and width in pixels.

    Raises:
        InputError: in the forward pass, a smaller picture.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        height, width = x.shape[2:]
        if min(height, width) < self.side:
            raise InputError(
                f"pictures of {height}x{width} are too small for this network; the smallest it takes are "
                f"{self.side}x{self.side}"
            )
        return x

    def extra_repr(self) -> str:
        """The side."""
        return str(self.side)


class PlainNetwork(nn.Module):
    """Features without shortcuts, and a linear classifier of their average over the map.

    Args:
        features: (N, C, H, W) -> (N, channels, h, w), with 1x1 maps of pictures of 32x32.
        channels: that the features end with.
        smallest: the smallest side of a picture in pixels.
        num_classes: the number of logits.
    """

    def __init__(self, features: nn.Sequential, channels: int, smallest: int, num_classes: int) -> None:
        super().__init__()
        self.smallest = SmallestSide(smallest)
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of the smallest side or more -> logits (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(self.smallest(x))).flatten(1))
