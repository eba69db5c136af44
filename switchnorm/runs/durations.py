"""Times in words."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """A time that passes: "1:02:03", or "2:03"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def duration(seconds: float | None) -> str:
    """A time that something took, in the unit that keeps it short: "42 s", "3.4 min", "1.5 h"."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
