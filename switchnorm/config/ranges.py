"""Ranges of numbers in a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from switchnorm.errors import InputError


@dataclass(frozen=True)
class Range:
    """Which numbers a key may have; null passes where the key allows it.

    Args:
        least: the smallest.
        most: the largest; None for no such bound.
        below: what it must stay below; None for no such bound.
    """

    least: float = 0
    most: float | None = None
    below: float | None = None

    def check(self, key: str, value: float | None) -> None:
        """Raise `InputError` naming the key if the value is out of range."""
        if value is None:
            return
        if not value >= self.least:
            raise InputError(f"{key} must be at least {self.least}, got {value}")
        if self.most is not None and not value <= self.most:
            raise InputError(f"{key} must be at most {self.most}, got {value}")
        if self.below is not None and not value < self.below:
            raise InputError(f"{key} must be below {self.below}, got {value}")
