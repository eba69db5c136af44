"""The page's sections on results: the tables of scores, and metrics over epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from switchnorm.report.common.elements import figure, folded, note, section, side_by_side, table
from switchnorm.report.common.figures import curve, line_styles
from switchnorm.report.common.groups import Group, by_score
from switchnorm.report.common.legends import line_legend
from switchnorm.report.geometry.folds import fold
from switchnorm.report.results.result import results
from switchnorm.report.results.results_table import results_table
from switchnorm.runs.score import Score

# Caption, column of metrics.csv, scale, and height of each panel; one that no run has measured is left out.
_Panel = tuple[str, str, int, int]
_CURVES: tuple[_Panel, ...] = (
    ("Training loss", "train_loss", 1, 320),
    ("Learning rate", "learning_rate", 1, 200),
    ("Radius of SSN", "radius", 1, 200),
)


def results_section(groups: Sequence[Group], notes: Sequence[str] = ()) -> str:
    """The table of scores by normalizer, one for each task, and notes on what it lacks."""
    rows = results(groups)
    said = "Best is the best epoch of each run, so it is a little generous."
    if any(row.spread is not None for row in rows):
        said += " ± is the sample standard deviation over seeds."
    if any(row.baseline for row in rows):
        said += " “vs BN” is in points, against BN on the same test data and network at the same samples per GPU."
    remarks = dict.fromkeys(row.score.remark for row in rows if row.score.remark)
    return section("Results", note(" ".join([said, *remarks, *notes])), *_by_task(groups, _results))


def _by_task(groups: Sequence[Group], draw: Callable[[Score, Sequence[Group]], str]) -> Iterator[str]:
    """What `draw` makes of the groups of each task: under its name where there are several, many by geometry."""
    tasks = by_score(groups)
    for score, members in tasks.items():
        yield f"<h3>{score.task.capitalize()}</h3>" if len(tasks) > 1 else ""
        for title, some in fold(members).items():
            yield folded(title, draw(score, some))


def _results(_: Score, groups: Sequence[Group]) -> str:
    return table(results_table(results(groups)))


def curves_section(groups: Sequence[Group]) -> str:
    """Metrics over epochs, with one legend for all of a task; too many of them for one figure by geometry."""
    seeds = any(len(group.counted) > 1 for group in groups)
    said = "The mean over seeds, in a band from the lowest to the highest seed." if seeds else ""
    if any(0 < len(group.counted) < len(group.runs) for group in groups):
        said += " Runs that do not count have no line." if said else "Runs that do not count have no line."
    return section("Training", note(said), *_by_task(groups, _curves))


def _curves(score: Score, groups: Sequence[Group]) -> str:
    panels = []
    for caption, column, scale, height in (*_score_curves(score), *_CURVES):
        drawing = curve(groups, column, scale, height)
        if drawing is not None:
            panels.append(figure(drawing, caption, f"{caption}, over epochs, a line for each normalizer"))
    return line_legend([group.label for group in groups], line_styles(groups)) + side_by_side(panels)


def _score_curves(score: Score) -> Iterator[_Panel]:
    for name, column in ((score.name, score.column), *score.others[:1]):
        yield f"Validation {name}, %", column, 100, 320
