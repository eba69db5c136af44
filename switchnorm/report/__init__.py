"""Run folders -> one self-contained HTML page, and tables for the terminal. Reads files; knows nothing of torch."""

from switchnorm.report.page import write
from switchnorm.report.runs import Run, load_run
from switchnorm.report.terminal import print_importance, print_results

__all__ = ["Run", "load_run", "print_importance", "print_results", "write"]
