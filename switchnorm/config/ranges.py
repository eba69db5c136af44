"""Ranges of numbers in a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from switchnorm.errors import InputError

#: More epochs, batches or samples than anybody counts to, and few enough for 64 bits once they are multiplied.
MOST = 2**31 - 1


@dataclass(frozen=True)
class Range:
    """Which numbers a key may have; null passes where the key allows it.

    Args:
        least: the smallest.
        most: the largest.
        below: what it must stay below; None for no such bound.
        or_zero: whether 0 is valid too, where `least` is more.
        off: how to switch off what the number is about, where that is another value.
    """

    least: float = 0
    most: float = MOST
    below: float | None = None
    or_zero: bool = False
    off: str = ""

    def check(self, key: str, value: float | None) -> None:
        """Raise `InputError` naming the key if the value is out of range."""
        if value is None or (self.or_zero and value == 0):
            return
        if not value >= self.least:
            least = "at least 0" if self.or_zero and not value > 0 else f"at least {self.least}"
            zero = "0, or " if self.or_zero and value > 0 else ""
            off = f"; {self.off} is for none" if self.off else ""
            raise InputError(f"{key} must be {zero}{least}, got {value}{off}")
        if self.below is not None and not value < self.below:
            raise InputError(f"{key} must be below {self.below}, got {value}")
        if self.below is None and not value <= self.most:
            raise InputError(f"{key} must be at most {_written(self.most)}, got {_written(value)}")


def _written(value: float) -> str:
    """A number without a hundred digits."""
    return str(value) if abs(value) < 1e20 else f"{value:.4g}" if abs(value) < 1e308 else "a number beyond 1e308"
