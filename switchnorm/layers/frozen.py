"""Batch normalizations by constants, of any library: known by what they hold and what they compute."""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

# (x - running_mean) / sqrt(running_var + eps) * weight + bias, each (C,).
_VALUES = ("weight", "bias", "running_mean", "running_var")
_ALLOWED = {*_VALUES, "num_batches_tracked"}
# What may follow, in timm's.
_ENDS = ("drop", "act")
# Beside which an eps is looked for: small, and not 0, for an eps may be.
_VARIANCE = 2.0**-20
# By class, and by the eps that its objects have where they have one.
_known: WeakKeyDictionary[type[nn.Module], dict[Any, int | None]] = WeakKeyDictionary()


def frozen_dims(module: nn.Module) -> int | None:
    """The spatial dimensions that a frozen batch normalization takes; None for every other module.

    It has the four vectors as buffers, no parameters, and a forward pass that is the affine map of these, in training
    as in evaluation; this is looked at once for each class and eps.
    """
    if module._parameters or not _has_buffers(module):
        return None
    known, eps = _known.setdefault(type(module), {}), vars(module).get("eps")
    key = eps if isinstance(eps, float) else None
    if key not in known:
        known[key] = next((dims for dims in (2, 3, 1) if _eps(module, dims) is not None), None)
    return known[key]


def frozen_eps(module: nn.Module) -> float | None:
    """What a frozen batch normalization adds to its variance, which may be 0.

    Some write it into their forward pass alone; torchvision's detectors with published weights have 0.
    """
    dims = frozen_dims(module)
    return None if dims is None else _eps(module, dims)


def _has_buffers(module: nn.Module) -> bool:
    buffers = {name for name, buffer in module._buffers.items() if buffer is not None}
    if not {*_VALUES} <= buffers <= _ALLOWED or not {*module._modules} <= {*_ENDS}:
        return False
    shapes = {module._buffers[name].shape for name in _VALUES}  # type: ignore[union-attr]
    return len(shapes) == 1 and len(shapes.pop()) == 1


@torch.no_grad()
def _eps(module: nn.Module, dims: int) -> float | None:
    """The number with which a module is the affine map; None where it computes something else."""
    channels = len(module._buffers["weight"])  # type: ignore[arg-type]
    place: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
    zero, one = torch.zeros(channels, **place), torch.ones(channels, **place)
    # No size of the map is that of the channels, which would hide a broadcast along the wrong one.
    x = torch.arange(2 * channels * (size := 4 if channels == 3 else 3) ** dims, **place).mul(0.7).cos()
    x = x.view(2, channels, *[size] * dims)
    shape = (-1, *[1] * dims)
    with contextlib.suppress(Exception):  # The code of others may raise anything.
        scaled = _run(module, x, weight=one, bias=zero, running_mean=zero, running_var=one * _VARIANCE)
        eps = float(f"{float((x / scaled).square().median()) - _VARIANCE:.6g}")
        eps = 0.0 if abs(eps) < 1e-6 * _VARIANCE else eps
        spread = torch.linspace(0.5, 2, channels, **place)
        values = {"weight": spread.flip(0), "bias": spread - 1, "running_mean": 1 - spread, "running_var": spread}
        w, b, m, v = (value.view(shape) for value in values.values())
        expected = (x - m) * (v + eps).rsqrt() * w + b
        if eps >= 0 and torch.allclose(_run(module, x, **values).to(x.dtype), expected, 1e-4, 1e-5):
            return eps
    return None


def twin(module: nn.Module, values: Mapping[str, Tensor], training: bool) -> Any:
    """A module like another to try something with, that has copies of these tensors in the place of its own.

    Its containers are its own, and it has no hooks; all else is the very same.
    """
    made = object.__new__(type(module))
    for name, value in vars(module).items():
        vars(made)[name] = copy.copy(value) if isinstance(value, (dict, list, set)) else value
    for kind, wrap in (("_parameters", nn.Parameter), ("_buffers", Tensor.clone)):
        held = vars(module)[kind]
        vars(made)[kind] = {**held, **{n: wrap(value.clone()) for n, value in values.items() if n in held}}
    vars(made).update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict(), training=training)
    return made


def _run(module: nn.Module, x: Tensor, **values: Tensor) -> Tensor:
    """What a module with these buffers computes without its activation, if that is the same in both modes."""
    outputs = []
    for training in (True, False):
        tried = twin(module, values, training)
        vars(tried)["_modules"] = {name: nn.Identity() for name in module._modules}
        outputs.append(tried.forward(x.clone()))
    if not torch.equal(*outputs) or outputs[0].shape != x.shape:
        raise ValueError("depends on the mode, or on the input's shape")
    return outputs[0]
