"""Functions of other libraries that look for torch's Batch Norm in a model, and say nothing of what they pass over."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

import torch
from torch import nn

_TRAVERSALS = ("named_modules", "modules", "<genexpr>")
# torch.optim.swa_utils.update_bn; and what Lightning's StochasticWeightAveraging asks first.
_RECALIBRATE = ("update_bn", "pl_module_contains_batch_norm")


def warn_if_overlooked(layer: nn.Module) -> None:
    """Warn if a traversal of the model is for estimating the running statistics of its Batch Norms anew.

    Args:
        layer: has running statistics and is no torch.nn Batch Norm; its `named_modules` calls this.
    """
    if torch.compiler.is_compiling():
        return
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in _TRAVERSALS:
        frame = frame.f_back
    if frame is not None and frame.f_code.co_name in _RECALIBRATE:
        warnings.warn(
            f"{frame.f_code.co_name} knows Batch Norm alone and leaves the running statistics of "
            f"{type(layer).__name__} as they are; call switchnorm.calibrate(model, batches)",
            stacklevel=4,
        )
