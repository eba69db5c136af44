"""A confusion matrix as a table of coloured cells: readable without the colours, and light or dark as the page is."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from switchnorm.report.common.elements import scrolling
from switchnorm.report.common.legends import swatch
from switchnorm.tasks.segmentation.files import Confusion

# Shares beside the diagonal are small; a power below 1 gives them a colour that can be seen.
_POWER = 0.6


def heat_map(confusion: Confusion, colours: Mapping[str, str], caption: str) -> str:
    """A row for each true class: which percentage of its pixels was taken for each class.

    Args:
        confusion: counts of pixels.
        colours: of the classes whose colour is known, by name.
        caption: the table's.
    """
    head = "".join(f'<th scope="col"><span>{_name(name, colours)}</span></th>' for name in confusion.names)
    rows = "".join(
        f'<tr><th scope="row">{_name(name, colours)}</th>{_cells(confusion, place)}</tr>'
        for place, name in enumerate(confusion.names)
    )
    drawn = scrolling(caption, f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody>", "heat")
    legend = '<span class="key found"></span> found, <span class="key taken"></span> taken for another class'
    return f'{drawn}<p class="note">{legend}. Each row, a true class, sums to 100.</p>'


def _name(name: str, colours: Mapping[str, str]) -> str:
    return (swatch(colours[name]) if name in colours else "") + escape(name)


def _cells(confusion: Confusion, row: int) -> str:
    total = sum(confusion.counts[row])
    return "".join(
        _cell(count / total if total else 0.0, place == row) for place, count in enumerate(confusion.counts[row])
    )


def _cell(share: float, found: bool) -> str:
    if share < 0.005:
        return "<td></td>"
    return (
        f'<td class="{"found" if found else "taken"}" style="--heat: {100 * share**_POWER:.0f}%">{100 * share:.0f}</td>'
    )
