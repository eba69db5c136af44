"""Pieces of a Markdown page, safe with whatever text users have."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any


def section(title: str, content: str) -> list[str]:
    """A heading and what stands below it; nothing where that is empty."""
    return [f"## {title}\n\n{content}"] if content else []


def table(pairs: Iterable[tuple[str, str]], head: tuple[str, str] = ("", "")) -> str:
    """A table of two columns."""
    return rows(head, list(pairs))


def rows(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table; "" where it has no rows."""
    if not cells:
        return ""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells))


def text(value: Any) -> str:
    """Text of a user's that stays a word in a table, whatever it has in it."""
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    escaped = html.escape(" ".join(shown.split()), quote=False)
    return escaped.replace("|", "\\|").replace("`", "'")
