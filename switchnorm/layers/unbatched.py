"""Single samples without a batch, (C, *S), which instance normalization takes, and so what comes in its place."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def is_one_sample(layer: Any, x: object) -> bool:
    """Whether x is a single sample without a batch, and of a layer that takes these; false for what is no tensor."""
    return layer.unbatched_dims is not None and isinstance(x, Tensor) and x.dim() == layer.unbatched_dims


def one_sample(layer: Any, x: Tensor, residual: Tensor | None, activation: Any) -> Tensor:
    """What a layer makes of x (C, *S) as a batch of one."""
    y: Tensor = layer.forward(x[None], None if residual is None else residual[None], activation)
    return y[0]
