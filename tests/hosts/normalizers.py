"""The normalizers that every host is switched to."""

from __future__ import annotations

from torch import nn

from switchnorm import ghost, switch

#: By the names that the table has for them.
NAMES = ("bn, ghosts of 2", "gn", "in", "sn", "ssn", "gn+ws")


def spec(normalizer: str) -> str:
    """What `switch` is told."""
    return normalizer.partition(",")[0]


def switched(model: nn.Module, normalizer: str) -> nn.Module:
    """The model with another normalization."""
    model = switch(model, spec(normalizer))
    return ghost(model, samples=2) if "ghosts" in normalizer else model
