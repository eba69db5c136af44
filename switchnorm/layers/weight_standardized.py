"""Convolutions with weight standardization: Qiao et al., "Micro-Batch Training with ... Weight Standardization"."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.ops import standardize_weight


def fan_in(conv: _ConvNd) -> int:
    """How many weights make one output of a convolution."""
    return conv.weight[0].numel()


class _WSConv(_ConvNd):
    """A convolution with each output channel's weights standardized; arguments as torch.nn's.

    Raises:
        InputError: one input channel per group and a kernel of 1, whose standardized weight would always be 0.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if fan_in(self) == 1:
            raise InputError(
                f"a kernel of 1 with {self.groups} groups of one channel has a single weight per output, which cannot "
                "be standardized; use a larger kernel, fewer groups or a plain convolution"
            )

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, standardize_weight(self.weight), self.bias)


class WSConv1d(_WSConv, nn.Conv1d):
    """torch.nn.Conv1d with standardized weights."""


class WSConv2d(_WSConv, nn.Conv2d):
    """torch.nn.Conv2d with standardized weights."""


class WSConv3d(_WSConv, nn.Conv3d):
    """torch.nn.Conv3d with standardized weights."""
