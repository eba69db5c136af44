"""Batch Norm of this library in the place of timm's with activation: what timm's own code knows it by."""

from __future__ import annotations

import functools
import sys
from typing import Any, ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from switchnorm.layers import BatchNorm2d

#: timm's converters ask for this class, and take `act` and `drop` from its layers.
_TIMM = ("timm.layers.norm_act", "BatchNormAct2d")


class _TorchForward(nn.BatchNorm2d):
    """Before timm's class in the order of bases, so that ours finds torch's forward pass, without the activation."""

    forward = _BatchNorm.forward


class Tailed(nn.Module):
    """What layers made by `as_timms` have in common. A pickle does without the class, which exists only at run time."""

    _original: ClassVar[type[nn.Module]]

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced = super().__reduce_ex__(max(int(protocol), 2))
        return _blank, (self._original,), reduced[2]


def as_timms(layer: nn.Module) -> None:
    """Make a Batch Norm that ends with `drop` and `act` an instance of timm's BatchNormAct2d too, if timm is in use.

    It computes the same as before. `timm.layers.convert_sync_batchnorm` and `freeze_batch_norm_2d` then make of it what
    they make of timm's own. Other converters are refused, see `switchnorm.layers.folding.check_rebuilt`.
    """
    theirs = getattr(sys.modules.get(_TIMM[0]), _TIMM[1], None)
    if isinstance(layer, BatchNorm2d) and theirs is not None:
        cls: Any = original(layer)
        layer.__class__ = _joined(cls, theirs)


def original(layer: nn.Module) -> type[nn.Module]:
    """The class of a layer before `as_timms`."""
    return layer._original if isinstance(layer, Tailed) else type(layer)


@functools.cache
def _joined(cls: Any, theirs: Any) -> Any:
    members = {"_original": cls, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (Tailed, cls, _TorchForward, theirs), members)


def _blank(cls: type[nn.Module]) -> nn.Module:
    """A layer to which its state is still to be given."""
    layer = cls.__new__(cls)
    as_timms(layer)
    return layer
