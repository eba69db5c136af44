"""Clipping gradients by their norm, also those of parameters that are spread over processes."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from switchnorm.layers.norms.switch import whole


def norm_of_gradients(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together, (); those of spread parameters are summed up over processes first.

    torch 2.8 leaves each process its share of the norm, and what it then adds to that against a division by zero counts
    once a process.
    """
    return whole(get_total_norm([p.grad for p in parameters if p.grad is not None]))


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """As `torch.nn.utils.clip_grad_norm_` does, by the same number in every process and with any number of these."""
    held = list(parameters)
    clip_grads_with_norm_(held, max_norm, norm_of_gradients(held))
