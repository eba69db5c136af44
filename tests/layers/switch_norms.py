"""Layers that mix statistics, with random state, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.layers import (
    SparseSwitchNorm1d,
    SparseSwitchNorm2d,
    SparseSwitchNorm3d,
    SwitchNorm,
    SwitchNorm1d,
    SwitchNorm2d,
    SwitchNorm3d,
)

SHAPES = {
    SwitchNorm1d: (4, 6, 7),
    SwitchNorm2d: (4, 6, 5, 7),
    SwitchNorm3d: (3, 6, 2, 3, 2),
    SparseSwitchNorm1d: (4, 6, 7),
    SparseSwitchNorm2d: (4, 6, 5, 7),
    SparseSwitchNorm3d: (3, 6, 2, 3, 2),
}
BOTH = [SwitchNorm2d, SparseSwitchNorm2d]


def random_layer(kind: type[SwitchNorm] = SwitchNorm2d, channels: int = 6, *args: Any, **options: Any) -> Any:
    """A layer with every parameter and buffer away from its default."""
    layer = kind(channels, *args, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
        if layer.running_mean is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
        if hasattr(layer, "radius"):
            layer.set_radius(0.3)
    return layer


def snapshot(layer: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in layer.state_dict().items()}
