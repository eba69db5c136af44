"""Whether two networks are the same but for their numbers."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from switchnorm.layers import norm_of

#: What training alone asks of a layer, by the value that says nothing.
TRAINING = {"ghost": None, "sync": False}


def plain(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without what training alone asks of layers."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if norm_of(module) is not None:
            for name, value in TRAINING.items():
                if hasattr(module, name):
                    setattr(module, name, value)
    return model


def difference(made: nn.Module, wanted: nn.Module) -> str | None:
    """What the network that was made has in place of the one that is wanted, in words; None where they are alike.

    Compared are the modules, by name, class and what they print, and the names and shapes of their tensors.
    """
    ours, theirs = modules_of(made), modules_of(wanted)
    for path in (*theirs, *ours):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None or type(one) is not type(other) or one.extra_repr() != other.extra_repr():
            return f"has {_shown(one)} as {path or 'the whole'}, and this network has {_shown(other)}"
    ours, theirs = made.state_dict(), wanted.state_dict()
    for key in (*theirs, *ours):
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None or getattr(one, "shape", None) != getattr(other, "shape", None):
            return f"has {_shape(one)} as {key}, and this network has {_shape(other)}"
    return None


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by each of its names."""
    return dict(model.named_modules(remove_duplicate=False))


def _shown(module: nn.Module | None) -> str:
    return "nothing" if module is None else f"{type(module).__name__}({module.extra_repr()})"


def _shape(tensor: Any) -> str:
    shape = getattr(tensor, "shape", None)
    return "nothing" if tensor is None else type(tensor).__name__ if shape is None else str(tuple(shape))
