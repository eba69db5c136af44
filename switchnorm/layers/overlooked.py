"""Functions of other libraries that look for torch's Batch Norm in a model, and say nothing of what they pass over."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any

import torch

_CALIBRATE = "leaves the running statistics of {} as they are; call switchnorm.calibrate(model, batches)"
_SYNC = "does not synchronise {}; call switchnorm.sync(model)"
_FREEZE = "does not freeze {}; set requires_grad_(False) on the layer, and eval() after every train()"
# By the name of the function: torch's; what Lightning's StochasticWeightAveraging asks first; torch's and Lightning's,
# and timm's of the same name; apex's; timm's.
_WORDS = {
    "update_bn": _CALIBRATE,
    "pl_module_contains_batch_norm": _CALIBRATE,
    "convert_sync_batchnorm": _SYNC,
    "convert_syncbn_model": _SYNC,
    "freeze_batch_norm_2d": _FREEZE,
}
_TRAVERSALS = ("named_modules", "modules", "<genexpr>")


def warn_if_overlooked(layer: Any) -> None:
    """Warn if whoever goes through the modules of a model is about to change its Batch Norms alone.

    Args:
        layer: has running statistics and is no torch.nn Batch Norm; its `named_modules` and `named_children` call this.
    """
    if torch.compiler.is_compiling():
        return
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in _TRAVERSALS:
        frame = frame.f_back
    name = "" if frame is None else frame.f_code.co_name
    if name in _WORDS and not (_WORDS[name] is _SYNC and layer.sync is not False):
        words = _WORDS[name].format(type(layer).__name__)
        warnings.warn(f"{name} knows Batch Norm alone and {words}", stacklevel=3)
