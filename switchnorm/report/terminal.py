"""The report's tables on the terminal: bold and small bars on a screen, plain text into a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table as Drawing
from rich.text import Text

from switchnorm.report.common.groups import Group as RunGroup
from switchnorm.report.common.groups import by_score, group_runs
from switchnorm.report.common.table import Cell, Table
from switchnorm.report.geometry.grid import grids
from switchnorm.report.geometry.grid_table import grid_table
from switchnorm.report.importance.importance_table import importance_table
from switchnorm.report.results.result import results
from switchnorm.report.results.results_table import results_table
from switchnorm.runs.geometries import Absent
from switchnorm.runs.importance import ImportanceRow
from switchnorm.runs.run import load_runs
from switchnorm.text import printable

_BLOCKS = " ▁▂▃▄▅▆▇█"
# A pipe has no width: rich would take it for 80 columns and cut numbers off.
_PIPE_WIDTH = 400
# Columns that a row's name may fold into, and what lines below it begin with.
_NAME, _INDENT = 10, "  "


def print_results(runs: Sequence[Path], console: Console | None = None, notes: Sequence[str] = ()) -> None:
    """Print the table of scores by normalizer for the given run folders, and by geometry where these differ."""
    groups = group_runs(load_runs(runs))
    for place, table in enumerate([*_results(groups, notes), *map(grid_table, grids(groups))]):
        if place:
            (console or Console()).print()
        print_table(table, console)


def live_results(runs: Sequence[Path]) -> RenderableType:
    """The table of scores by normalizer, to be shown while a study goes on."""
    return Group(*(_drawing(table, on_screen=True) for table in _results(group_runs(load_runs(runs)))))


def _results(groups: Sequence[RunGroup], notes: Sequence[str] = ()) -> list[Table]:
    return [results_table(results(alike), notes) for alike in by_score(groups).values()]


def print_grids(runs: Sequence[Path], absent: Sequence[Absent] = (), console: Console | None = None) -> None:
    """Print the table of scores by geometry for the given run folders and the trainings that have none."""
    for grid in grids(group_runs(load_runs(runs)), absent, least=1):
        print_table(grid_table(grid), console)


def live_grid(runs: Sequence[Path], absent: Sequence[Absent] = ()) -> RenderableType:
    """The scores alone, to be shown while a study goes on."""
    found = grids(group_runs(load_runs(runs)), absent, least=1)
    return Group(*(_drawing(replace(grid_table(grid, differences=False), notes=()), on_screen=True) for grid in found))


def print_importance(layers: Sequence[ImportanceRow], console: Console | None = None) -> None:
    """Print how much each layer relies on each statistic, a row per layer in the order given."""
    if layers:
        print_table(importance_table(layers), console)
    else:
        (console or Console()).print("No layer mixes statistics.")


def print_table(table: Table, console: Console | None = None) -> None:
    """Print any table; what is piped is as wide as it must be."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=_PIPE_WIDTH)
    console.print(_drawing(table, console.is_terminal))


def _drawing(table: Table, on_screen: bool) -> RenderableType:
    caption, shown = _condensed(table)
    notes = [Text(""), *map(_said, table.notes)] if table.notes else []
    return Group(_said(caption, "bold"), Text(""), _Rows(table, shown, on_screen), *notes)


class _Rows:
    """The rows of a table side by side, or each as lines of its own where the terminal is too narrow for them.

    Args:
        table: whose rows they are.
        shown: the columns.
        on_screen: as `_text`.
    """

    def __init__(self, table: Table, shown: Sequence[int], on_screen: bool) -> None:
        self.table, self.shown, self.on_screen = table, shown, on_screen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawing = _side_by_side(self.table, self.shown, self.on_screen)
        needed = Measurement.get(console, options.update(max_width=_PIPE_WIDTH), drawing).maximum
        longest = max((len(row[0].text) for row in self.table.rows), default=0)
        if needed - max(longest - _NAME, 0) <= options.max_width:
            yield drawing
        else:
            yield from self._lines(options.max_width)

    def _lines(self, width: int) -> Iterator[Text]:
        """The name of each row, and below it what the columns say, as many in a line as fit."""
        for row in self.table.rows:
            yield _said(row[0].text, "bold" if row[0].strong else "")
            line = Text(_INDENT)
            for column in (each for each in self.shown[1:] if row[each].text):
                part = Text.assemble(f"{self.table.columns[column].lower()} ", _text(row[column], self.on_screen))
                if line.cell_len > len(_INDENT) and line.cell_len + len(_INDENT) + part.cell_len > width:
                    yield line
                    line = Text(_INDENT)
                line.append_text(part if line.cell_len == len(_INDENT) else Text(_INDENT) + part)
            yield line


def _side_by_side(table: Table, shown: Sequence[int], on_screen: bool) -> Drawing:
    drawing = Drawing(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in shown:
        # A title wraps between its words, so that a column is as narrow as its numbers; only names of rows may fold.
        title = _said(table.columns[column].replace(" ", "\n") if on_screen else table.columns[column])
        justify: JustifyMethod = "right" if column else "left"
        drawing.add_column(title, justify=justify, vertical="bottom", overflow="fold", no_wrap=column > 0)
    for place, row in enumerate(table.rows, start=1):
        drawing.add_row(*(_text(row[column], on_screen) for column in shown), end_section=place in table.blocks)
    return drawing


def _condensed(table: Table) -> tuple[str, list[int]]:
    """The caption with every setting that all rows share, and the columns that are left to show."""
    first = len(table.columns) - table.settings
    shared = [column for column in range(first, len(table.columns)) if len({row[column] for row in table.rows}) == 1]
    titles = [title[0].lower() + title[1:] for title in table.columns]
    said = ", ".join(f"{titles[column]} {table.rows[0][column].text}" for column in shared)
    shown = [column for column in range(len(table.columns)) if column not in shared]
    return f"{table.caption} ({said})" if said else table.caption, shown


def _text(cell: Cell, on_screen: bool) -> Text:
    """The cell with its bar; without a screen there is no bold, so a star marks what stands out."""
    bar = "" if cell.share is None else _BLOCKS[round(cell.share * (len(_BLOCKS) - 1))] + " "
    star = "*" if cell.strong and not on_screen else ""
    return _said(bar + cell.text + star, "bold" if cell.strong else "")


def _said(text: str, style: str = "") -> Text:
    """Text whose control characters a terminal shows, and whose square brackets are no markup."""
    return Text(printable(text), style=style)
