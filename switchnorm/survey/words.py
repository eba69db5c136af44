"""What was found, on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from switchnorm.report.terminal import print_table
from switchnorm.survey.findings import Finding
from switchnorm.survey.tables import class_table, split_table
from switchnorm.survey.whole import Survey
from switchnorm.text import printable

#: Lines of text are no longer than this on a wide screen.
_WIDEST = 100
#: Columns of a screen on which several splits have room beside each other.
_BESIDE = 72


def print_survey(name: str, survey: Survey, console: Console | None = None) -> None:
    """Print tables, findings and verdict."""
    console = console or Console()
    narrow = console.is_terminal and console.width < _BESIDE
    for part in [replace(survey, seen=(one,)) for one in survey.seen] if narrow else [survey]:
        for table in (split_table(part), class_table(part)):
            print_table(table, console)
            console.print()
    for line in (*said(survey.findings), verdict(name, survey)):
        text = printable(line)
        if console.is_terminal:
            width = min(console.width, _WIDEST)
            text = textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)
        console.out(text, highlight=False)


def said(found: Sequence[Finding]) -> list[str]:
    """A line for each finding."""
    return [f"{'wrong' if each.wrong else 'unusual'}: {each.text}" for each in found]


def verdict(name: str, survey: Survey) -> str:
    """All in a line."""
    unusual = len(survey.findings) - survey.wrong
    partly = "" if all(one.summary.complete for one in survey.seen) else " among what was looked at"
    if survey.wrong:
        more = f", {unusual} unusual" if unusual else ""
        return f"{name}: {survey.wrong} wrong{more}{partly}; training would stop at what is wrong"
    return f"{name}: nothing wrong{f', {unusual} unusual' if unusual else ''}{partly}"
