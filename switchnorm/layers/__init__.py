"""The layers: modules that hold state over `switchnorm.ops`."""

from switchnorm.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from switchnorm.layers.group_norm import GroupNorm
from switchnorm.layers.registry import NORMS, Spec
from switchnorm.layers.sparse_switch_norm import (
    SparseSwitchNorm,
    SparseSwitchNorm1d,
    SparseSwitchNorm2d,
    SparseSwitchNorm3d,
)
from switchnorm.layers.switch_norm import SwitchNorm, SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from switchnorm.layers.weight_standardized import WSConv1d, WSConv2d, WSConv3d

__all__ = [
    "NORMS",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "SparseSwitchNorm",
    "SparseSwitchNorm1d",
    "SparseSwitchNorm2d",
    "SparseSwitchNorm3d",
    "Spec",
    "SwitchNorm",
    "SwitchNorm1d",
    "SwitchNorm2d",
    "SwitchNorm3d",
    "WSConv1d",
    "WSConv2d",
    "WSConv3d",
]
