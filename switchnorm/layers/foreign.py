"""Normalizations of other libraries, and the registered normalizers that they stand for."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

#: Classes, the name of the normalizer, and the spatial dimensions where the class tells.
STAND_INS: dict[type[nn.Module], tuple[str, int | None]] = {
    nn.BatchNorm1d: ("bn", 1),
    nn.BatchNorm2d: ("bn", 2),
    nn.BatchNorm3d: ("bn", 3),
    nn.LazyBatchNorm1d: ("bn", 1),
    nn.LazyBatchNorm2d: ("bn", 2),
    nn.LazyBatchNorm3d: ("bn", 3),
    nn.SyncBatchNorm: ("bn", None),
    nn.InstanceNorm1d: ("in", 1),
    nn.InstanceNorm2d: ("in", 2),
    nn.InstanceNorm3d: ("in", 3),
    nn.LazyInstanceNorm1d: ("in", 1),
    nn.LazyInstanceNorm2d: ("in", 2),
    nn.LazyInstanceNorm3d: ("in", 3),
    nn.GroupNorm: ("gn", None),
}
#: Normalizations that stand for no normalizer.
OTHERS = (_NormBase, nn.LayerNorm, nn.RMSNorm)
#: What the frozen ones stand for.
FROZEN = "bn"


def process_group_of(module: nn.Module) -> object:
    """Over which processes another library's layer synchronises: False, True (all) or a process group."""
    return (module.process_group or True) if isinstance(module, nn.SyncBatchNorm) else False
