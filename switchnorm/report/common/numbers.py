"""Numbers in words."""

from __future__ import annotations


def percent(fraction: float | None) -> str:
    """A fraction for readers, without the sign: "54.21"."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def counted(number: int, noun: str) -> str:
    """A number of things: "1 seed", "3 seeds"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
