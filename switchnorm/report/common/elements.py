"""Elements of the page as HTML. Words are escaped here; what is HTML already is called so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from html import escape

import plotly.graph_objects as go

from switchnorm.report.common.legends import swatch
from switchnorm.report.common.table import Cell, Table


def section(title: str, *parts: str) -> str:
    """Parts of HTML under a heading of their own; nothing where there would be nothing below it."""
    content = "".join(parts)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def folded(title: str, content: str, aside: str = "") -> str:
    """The content, HTML, behind a line that opens it; as it is where there is no title."""
    if not title:
        return content
    more = f" <span>· {escape(aside)}</span>" if aside else ""
    return f'<details><summary>{escape(title)}{more}</summary><div class="body">{content}</div></details>'


def note(text: str) -> str:
    """A paragraph in the background; nothing where there is nothing to say."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def figure(drawing: go.Figure, caption: str, description: str, control: str = "") -> str:
    """A figure as data, which page.js draws into the element before it.

    Args:
        drawing: with a height, as `plain_figure` sets it.
        caption: above it.
        description: for those who cannot see it.
        control: HTML below it, which page.js knows.
    """
    # "<" is the only character that could end the script element early.
    data = drawing.to_json().replace("<", "\\u003c")
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<div class="plot" role="img" aria-busy="true" aria-label="{escape(description)}" '
        f'style="height: {drawing.layout.height}px"></div>'
        f'<script type="application/json">{data}</script>{control}</figure>'
    )


def table(data: Table) -> str:
    """A table that scrolls sideways where it is too wide, and the notes below it."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in data.columns)
    blocks = "".join(
        f"<tbody>{''.join(map(_row, data.rows[start:end]))}</tbody>"
        for start, end in itertools.pairwise([0, *data.blocks, len(data.rows)])
    )
    notes = f'<p class="note">{"<br>".join(map(escape, data.notes))}</p>' if data.notes else ""
    return scrolling(data.caption, f"<thead><tr>{head}</tr></thead>{blocks}") + notes


def scrolling(caption: str, rows: str, kind: str = "") -> str:
    """The frame of a table: a caption that stays while the rows, HTML, scroll sideways."""
    said = escape(caption)
    marked = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{said}">'
        f"<table{marked}><caption>{said}</caption>{rows}</table></div>"
    )


def _row(row: Iterable[Cell]) -> str:
    return f"<tr>{''.join(_cell(cell, place == 0) for place, cell in enumerate(row))}</tr>"


def _cell(cell: Cell, is_name: bool) -> str:
    kinds = " ".join(["best"] * cell.strong + ["share"] * (cell.share is not None))
    share = "" if cell.share is None else f' style="--share: {100 * cell.share:.0f}%"'
    name, attributes = ("th", ' scope="row"') if is_name else ("td", "")
    marked = f' class="{kinds}"' if kinds else ""
    colour = "" if cell.colour is None else swatch(cell.colour)
    return f"<{name}{attributes}{marked}{share}>{colour}{escape(cell.text)}</{name}>"


def side_by_side(parts: Sequence[str]) -> str:
    """Parts beside each other where there is room."""
    return f'<div class="grid">{"".join(parts)}</div>'
