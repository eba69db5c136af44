"""What any normalization computes in evaluation, of this library and of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from switchnorm.layers.evaluated import (
    Constant,
    Evaluated,
    batch_normalization,
    group_normalization,
    instance_normalization,
)
from switchnorm.layers.frozen import frozen_dims, frozen_eps
from switchnorm.layers.kinds import kind_of

#: What torch's classes compute.
_TORCHS: tuple[tuple[type[nn.Module], Callable[[Any], Evaluated | str]], ...] = (
    (_BatchNorm, batch_normalization),
    (_InstanceNorm, instance_normalization),
    (nn.GroupNorm, group_normalization),
)


def evaluated(norm: nn.Module) -> Evaluated | str:
    """What a normalization computes in evaluation, or why nothing tells.

    Args:
        norm: any layer for which `kind_of` is not None. What subclasses, hooks and activations of others add to its
            kind is not looked at.
    """
    kind = kind_of(norm)
    if kind is not None and kind.frozen:
        return _frozen(norm)
    if kind is not None and kind.norm is not None and kind.own and kind.norm.evaluates is not None:
        return kind.norm.evaluates(norm)
    for cls, found in _TORCHS:
        if isinstance(norm, cls):
            return found(norm)
    if kind is not None and kind.own and kind.norm is not None:
        return f"the registration of {kind.norm.name!r} does not say what its layers compute in evaluation"
    return f"nothing of what {type(norm).__name__} computes is constant"


def _frozen(norm: Any) -> Evaluated:
    dims, eps = frozen_dims(norm), frozen_eps(norm)
    assert dims is not None
    assert eps is not None
    constant = Constant.normalizing(norm.running_mean, norm.running_var, eps, norm.weight, norm.bias)
    return Evaluated(len(constant.scale), constant, None, (dims + 2,))
