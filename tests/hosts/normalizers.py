"""The normalizers that every host is switched to."""

from __future__ import annotations

from torch import nn

from switchnorm import ghost
from switchnorm.surgery import SwitchPlan

#: By the names that the table has for them.
NAMES = ("bn, ghosts of 2", "gn", "in", "sn", "ssn", "gn+ws")


def spec(normalizer: str) -> str:
    """What `switch` is told."""
    return normalizer.partition(",")[0]


def switched(plan: SwitchPlan, normalizer: str) -> nn.Module:
    """The model of a plan, with another normalization."""
    model = plan.apply()
    return ghost(model, samples=2) if "ghosts" in normalizer else model
