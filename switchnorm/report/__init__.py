"""Run folders -> one self-contained HTML page, and tables for the terminal. Reads files; knows nothing of torch."""

from switchnorm.report.grid_files import write_tables
from switchnorm.report.page import write
from switchnorm.report.terminal import live_grid, print_grids, print_importance, print_results
from switchnorm.runs.geometries import Absent
from switchnorm.runs.run import Run, load_run

__all__ = [
    "Absent",
    "Run",
    "live_grid",
    "load_run",
    "print_grids",
    "print_importance",
    "print_results",
    "write",
    "write_tables",
]
