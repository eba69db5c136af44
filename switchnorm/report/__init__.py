"""Run folders -> one self-contained HTML page, and tables for the terminal. Reads files; knows nothing of torch.

From the top down; each floor reads only from those below it, and the lowest from switchnorm.runs:

    page.py, terminal.py    what a reader gets: the page, section by section (assets/: its HTML, style and script), and
                            the same tables on the terminal
    results/                the sections on scores and curves, and the headline
    importance/             the section on what each layer chose
    provenance_section.py   the section on where the runs come from
    user_sections.py        sections that somebody else registers; those of a task come with its registration
    geometry/               scores by (GPUs, samples per GPU): the grid, its table, figure, files and section; and
                            folding groups by geometry where they are many
    common/                 groups of runs, which of them count and on which test data they were judged; tables as
                            data, what figures share, and elements of HTML
"""

from switchnorm.report.common.elements import figure, note, section, table
from switchnorm.report.common.figures import plain_figure
from switchnorm.report.common.groups import Group
from switchnorm.report.common.table import Cell, Table
from switchnorm.report.geometry.grid_files import write_grids
from switchnorm.report.page import write
from switchnorm.report.results.results_files import write_results
from switchnorm.report.terminal import (
    live_grid,
    live_results,
    print_grids,
    print_importance,
    print_results,
    print_table,
)
from switchnorm.report.user_sections import register_section
from switchnorm.runs.geometries import Absent
from switchnorm.runs.run import Run, load_run

__all__ = [
    "Absent",
    "Cell",
    "Group",
    "Run",
    "Table",
    "figure",
    "live_grid",
    "live_results",
    "load_run",
    "note",
    "plain_figure",
    "print_grids",
    "print_importance",
    "print_results",
    "print_table",
    "register_section",
    "section",
    "table",
    "write",
    "write_grids",
    "write_results",
]
