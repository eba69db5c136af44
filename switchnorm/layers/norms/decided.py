"""Sparse layers that decided for the batch statistic alone: in evaluation they are Batch Norm, which needs no moments.

To know that takes a look at the importance, for which the host would wait for the device in every pass. So what was
seen is kept, as a standardized weight is (`switchnorm.layers.weight_standardized`), until what it was made of changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.layers.norms.averaged import Choices, choices_of
from switchnorm.ops.kernels.base import is_capturing
from switchnorm.ops.kernels.choice import choose, needs_plain_operations


class Decision(NamedTuple):
    """What a layer was seen to have decided.

    Attributes:
        sources: share the memory of what it was made of, so that nothing else can come to lie there.
        state: see `_state`.
        batch_alone: whether both importances are the batch statistic's.
    """

    sources: tuple[Tensor, ...]
    state: tuple[Any, ...]
    batch_alone: bool


def batch_alone(layer: Any) -> bool:
    """Whether all importance of a `SparseSwitchNorm` is the batch statistic's; False wherever that is not to be known.

    Nor is it asked for a kernel that leaves out by itself what has no importance, as the compiled library does in every
    pass. It is not to be known where gradients may flow into the logits; where operations are compiled, traced or
    otherwise intercepted; where something else than an optimizer makes the tensors, or they belong to several processes
    or have no version. On CUDA a change through `Tensor.data` cannot be noticed, so that there only inference mode
    keeps what was seen, in which no average of another network runs; a CUDA graph reads the logits itself.
    """
    radius = layer._buffers.get("radius")
    if radius is not None and radius.is_cpu:
        kernel = choose(radius)
        if kernel is not None and kernel.leaves_out:
            return False
    choices = choices_of(layer)
    # A subclass may make its importance of anything.
    if choices is None or layer._projection() is None or not _may_be_kept(choices):
        layer.__dict__.pop("_decision", None)
        return False
    kept: Decision | None = layer._decision
    state = layer.centre, layer.tied, *_state(choices)
    if kept is None or kept.state != state:
        kept = Decision(tuple(t.detach() for t in choices), state, _look(layer))
        layer.__dict__["_decision"] = kept
    return kept.batch_alone


def _may_be_kept(choices: Choices) -> bool:
    if torch.is_grad_enabled() or needs_plain_operations(*choices):
        return False
    if any(t.is_inference() or t.is_meta or (t.is_cpu and t.is_shared()) for t in choices):
        return False
    if not isinstance(choices.mean_weight, nn.Parameter) or not isinstance(choices.var_weight, nn.Parameter):
        return False
    radius = choices.radius
    return radius.is_cpu or (torch.is_inference_mode_enabled() and not is_capturing(radius))


def _state(choices: Choices) -> tuple[Any, ...]:
    """What differs after any change that PyTorch sees; on a CPU the values, which show every change."""
    if choices.radius.is_cpu:
        return tuple(value for t in choices for value in t.tolist())
    return _versions(choices)


def _versions(choices: Choices) -> tuple[Any, ...]:
    return tuple(part for t in choices for part in (t.data_ptr(), t._version, t.dtype))


def _look(layer: Any) -> bool:
    """Waits for the device."""
    place = layer.statistics.index("batch")
    mean, var = layer._importance(range(len(layer.statistics)))
    return bool(torch.stack((mean[place], var[place])).eq(1).all())
