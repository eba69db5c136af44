"""The layers: modules that hold state over `switchnorm.ops`, and the list of normalizers."""

from switchnorm.layers.kinds import Kind, channels_of, has_batch_statistics, kind_of, norm_of, scale_of
from switchnorm.layers.norms.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from switchnorm.layers.norms.bcn import BatchChannelNorm1d, BatchChannelNorm2d, BatchChannelNorm3d
from switchnorm.layers.norms.group import GroupNorm
from switchnorm.layers.norms.ibn import InstanceBatchNorm1d, InstanceBatchNorm2d, InstanceBatchNorm3d
from switchnorm.layers.norms.sparse import (
    SparseSwitchNorm,
    SparseSwitchNorm1d,
    SparseSwitchNorm2d,
    SparseSwitchNorm3d,
)
from switchnorm.layers.norms.switch import SwitchNorm, SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from switchnorm.layers.registry import Norm, all_norms, color_of, norm_names, register
from switchnorm.layers.running import parts_of_batch
from switchnorm.layers.spec import NormLike, Spec
from switchnorm.layers.weight_standardized import WSConv1d, WSConv2d, WSConv3d

__all__ = [
    "BatchChannelNorm1d",
    "BatchChannelNorm2d",
    "BatchChannelNorm3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceBatchNorm1d",
    "InstanceBatchNorm2d",
    "InstanceBatchNorm3d",
    "Kind",
    "Norm",
    "NormLike",
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
    "all_norms",
    "channels_of",
    "color_of",
    "has_batch_statistics",
    "kind_of",
    "norm_names",
    "norm_of",
    "parts_of_batch",
    "register",
    "scale_of",
]
