"""The page's section on scores by geometry."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.elements import figure, note, section, table
from switchnorm.report.common.figures import norm_styles
from switchnorm.report.common.legends import line_legend
from switchnorm.report.common.numbers import counted
from switchnorm.report.geometry.grid import Grid
from switchnorm.report.geometry.grid_figure import by_samples, unusual_gpus
from switchnorm.report.geometry.grid_table import grid_table


def geometry_section(grids: Sequence[Grid]) -> str:
    """The tables and figures of scores by geometry; nothing where there is none."""
    scores = {grid.score for grid in grids}
    title = scores.pop().title if len(scores) == 1 else "Scores"
    return section(f"{title} by geometry", *map(_grid, grids))


def _grid(grid: Grid) -> str:
    drawing = by_samples(grid)
    styles = norm_styles(list(grid.rows.values()))
    drawn = []
    if drawing is not None:
        said = ""
        if any(cell.spread is not None for cell in grid.cells.values()):
            said = "The line is the mean over seeds, the band its spread. "
        if others := unusual_gpus(grid):
            said += f"Open symbols and dotted lines: {', '.join(counted(gpus, 'GPU') for gpus in others)}."
        drawn.append(line_legend(list(grid.rows), styles))
        caption = f"{grid.score.title} by samples per GPU, {grid.network} on {grid.data}"
        drawn.append(figure(drawing, caption, f"{caption}: a line for each normalizer"))
        drawn.append(note(said))
    return f"<article>{''.join(drawn)}{table(grid_table(grid))}</article>"
