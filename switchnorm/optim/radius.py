"""SSN's radius as a function of the step, and the step as a function of the radius."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from switchnorm.errors import InputError
from switchnorm.optim.numbers import check_number

#: How much of the radius rises in proportion to the step where the shape itself would stand still. Importance that is
#: nearer than this to equal moves by rounding.
TRACE = 1e-6


@dataclass(frozen=True)
class RadiusShape:
    """The radius of each step: 0 up to a step, then a power of what has passed, and 1 from another step on.

    The default is the published one: step k of `steps` has min(k / (steps - 1), 1), from 0 in the first to 1 in the
    last (Shao et al., section 3.3: the radius grows linearly from 0 to 1).

    Other shapes are mixed with a millionth of a straight line from 0 to `end`. So each step up to `end` has a radius of
    its own, by which `step` finds it, also before `start`.

    Args:
        steps: optimizer steps of the training.
        start, end: where the radius begins to grow and where it reaches 1, as fractions of the steps.
        power: above 1 grows slowly at first, below 1 slowly at last.

    Raises:
        InputError: a number outside its range.
    """

    steps: int
    start: float = 0.0
    end: float = 1.0
    power: float = 1.0

    def __post_init__(self) -> None:
        steps: Any = self.steps
        if isinstance(steps, bool) or not isinstance(steps, Integral):
            raise InputError(f"steps must be a whole number of optimizer steps, got {steps!r}")
        if self.steps < 1:
            raise InputError(f"steps must be at least 1, got {self.steps}")
        for name in ("start", "end", "power"):
            check_number(name, getattr(self, name))
        if not 0 <= self.start < 1:
            raise InputError(f"start must lie in [0, 1), as a fraction of the steps, got {self.start}")
        if not self.start < self.end <= 1:
            raise InputError(f"end must lie above start, {self.start}, and be at most 1, got {self.end}")
        if not 0 < self.power < math.inf:
            raise InputError(f"power must be above 0 and finite, got {self.power}")

    def __call__(self, step: int) -> float:
        """The radius in step `step`, which counts from 0."""
        passed = min(step / max(self.steps - 1, 1), 1.0)
        line = min(passed / self.end, 1.0)
        shape = min(max((passed - self.start) / (self.end - self.start), 0.0), 1.0) ** self.power
        return shape + TRACE * (line - shape)

    def step(self, radius: float, dtype: torch.dtype = torch.float32) -> int:
        """The first step whose radius, rounded to `dtype`, is at least `radius`.

        In float32 that is the step of which the radius is, for up to a million steps. In a shorter type several steps
        share a radius, in bfloat16 up to one in 256.
        """
        steps = range(max(self.steps - 1, 1))
        return bisect.bisect_left(steps, radius, key=lambda step: rounded(self(step), dtype))


def rounded(radius: float, dtype: torch.dtype) -> float:
    """A radius as a tensor of this type holds it."""
    return float(torch.tensor(radius, dtype=dtype))
