"""Legends as HTML: what colours stand for, and which line is whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from switchnorm.report.common.figures import Style

# As plotly draws the symbols and dashes of a `Style`.
_SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚", "x": "✖"}
_DASHARRAYS = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}


def colour_legend(colours: Mapping[str, str], label: str) -> str:
    """What each colour stands for."""
    items = (f"<li>{swatch(colour)}{escape(name)}</li>" for name, colour in colours.items())
    return f'<ul class="legend" aria-label="{escape(label)}">{"".join(items)}</ul>'


def swatch(colour: str) -> str:
    """A small field of a colour."""
    return (
        '<svg class="swatch" viewBox="0 0 30 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="30" height="12" rx="2" fill="{escape(colour)}"/></svg>'
    )


def line_legend(labels: Sequence[str], styles: Sequence[Style]) -> str:
    """A button for each line that hides it: page.js knows its traces by their legendgroup, which is its place here."""
    items = []
    for place, (label, style) in enumerate(zip(labels, styles, strict=True)):
        button = (
            f'<button type="button" value="{place}" aria-pressed="true">{_line_sample(style)}{escape(label)}</button>'
        )
        items.append(f"<li>{button}</li>")
    return f'<ul class="legend" aria-label="Show or hide a normalizer">{"".join(items)}</ul>'


def _line_sample(style: Style) -> str:
    return (
        f'<svg viewBox="0 0 30 12" aria-hidden="true"><line x1="0" x2="30" y1="6" y2="6" stroke="{style.colour}" '
        f'stroke-width="2.5" stroke-dasharray="{_DASHARRAYS[style.dash]}"/>'
        f'<text x="15" y="10" font-size="11" text-anchor="middle" fill="{style.colour}">{_SYMBOLS[style.symbol]}</text>'
        "</svg>"
    )
