"""Two mistakes in training that nothing else shows: logits that no optimizer has, and a radius that nobody moves.

A layer is looked at in its first training passes, and once more when it is evaluated or saved after them. Its values
are compared, not the counters of writes alone, since fused optimizers leave these as they are.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.ops.kernels.choice import needs_plain_operations

LOGITS = ("mean_weight", "var_weight")


class _First(NamedTuple):
    """A parameter as the first training pass found it."""

    parameter: Tensor
    version: int
    value: Tensor

    def comparable(self, found: Tensor | None) -> bool:
        """Whether `found` is the parameter, and where and what it was."""
        value = self.value
        return found is self.parameter and (found.device, found.dtype) == (value.device, value.dtype)

    def moved(self) -> bool:
        """Whether it was written since, or has another value; may wait for the device."""
        return self.parameter._version != self.version or not torch.equal(self.parameter, self.value)


#: What was trained and not looked at yet.
_watched: weakref.WeakKeyDictionary[nn.Module, dict[str, _First]] = weakref.WeakKeyDictionary()


def count_pass(layer: Any) -> None:
    """Count a training pass of a layer that mixes statistics, up to 2; remember its parameters in the first."""
    found = _parameters(layer)
    if not any(p.requires_grad for p in found.values()):
        return
    if layer in _watched:
        layer._passes = 2
    elif all(name in found for name in LOGITS) and _readable(*found.values()):
        _watched[layer] = {name: _First(p, p._version, p.detach().clone()) for name, p in found.items()}
        layer._passes = 1


def check_training(layer: Any) -> None:
    """Say, once for all layers, if what was trained since its first pass lacks something.

    Args:
        layer: after two training passes. One alone may be of somebody who tries the layer.
    """
    found = _parameters(layer)
    first = _watched.get(layer)
    if first is None or not all(each.comparable(found.get(name)) for name, each in first.items()):
        _forget(layer, passes=0)  # its parameters have been replaced or moved to another device
        return
    if not _readable(*found.values()):
        return
    moved = {name for name, each in first.items() if each.moved()}
    mistake = _mistake(layer, moved) if moved else None
    if mistake is None:
        _forget(layer, passes=3 if moved else 0)
        return
    for each in list(_watched):
        _forget(each, passes=3)
    warnings.warn(mistake, stacklevel=4)


def _mistake(layer: Any, moved: set[str]) -> str | None:
    name = type(layer).__name__
    radius = layer._buffers.get("radius")
    if radius is not None and layer.mean_fixed and layer.var_fixed:
        return None
    if not moved & {*LOGITS} and all(layer._parameters[each].requires_grad for each in LOGITS):
        return (
            f"the scale of a {name} was trained, but its importance logits have not moved: make the optimizer after "
            "switch, from switchnorm.parameter_groups(model, lr=...)"
        )
    if radius is not None and len(layer.statistics) > 1 and not layer._radius_given and radius == 0:
        return (
            f"a {name} was trained, but its radius is still 0, so that nothing becomes sparse: after making the "
            "optimizer, add switchnorm.SparseSchedule(optimizer, model, steps)"
        )
    return None


def _parameters(layer: nn.Module) -> dict[str, Tensor]:
    held = layer._parameters
    return {name: p for name in ("weight", *LOGITS) if (p := held.get(name)) is not None}


def _readable(*tensors: Tensor) -> bool:
    """Whether values may be read: of real tensors, outside of traces, transforms and graphs of a device."""
    if needs_plain_operations(*tensors) or any(t.is_meta or t.is_inference() for t in tensors):
        return False
    return not (any(t.is_cuda for t in tensors) and torch.cuda.is_current_stream_capturing())


def _forget(layer: Any, passes: int) -> None:
    _watched.pop(layer, None)
    layer._passes = passes
