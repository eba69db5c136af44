"""A table as data: the terminal, the page and files draw the same one, each in its own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A text, whether it stands out, the share in [0, 1] that a bar shows, and the colour of what it names."""

    text: str
    strong: bool = False
    share: float | None = None
    colour: str | None = None


@dataclass(frozen=True)
class Table:
    """A caption, column titles and rows of cells; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    settings: int = 0
    """How many columns at the end are no outcome, but say under which settings it came about."""
    blocks: tuple[int, ...] = ()
    """The places of the rows that begin a new block."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
