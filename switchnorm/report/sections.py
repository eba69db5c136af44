"""The page's sections on what all runs have: scores, curves, choices of layers, and where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import yaml

from switchnorm.report import figures, tables
from switchnorm.report.folds import fold
from switchnorm.report.grid import Grid
from switchnorm.report.grid_figure import by_samples, unusual_gpus
from switchnorm.report.grid_table import grid_table
from switchnorm.report.groups import Group, by_score
from switchnorm.report.html import colour_legend, figure, folded, note, section, stacked, table
from switchnorm.report.parts import parts
from switchnorm.report.tables import all_statistics, importance_table, results_table
from switchnorm.report.words import mixture
from switchnorm.runs.durations import duration
from switchnorm.runs.importance import LayerWeights
from switchnorm.runs.run import Run
from switchnorm.runs.score import Score

# Caption, column of metrics.csv, scale, and height of each panel; one that no run has measured is left out.
_Panel = tuple[str, str, int, int]
_CURVES: tuple[_Panel, ...] = (
    ("Training loss", "train_loss", 1, 320),
    ("Learning rate", "learning_rate", 1, 200),
    ("Radius of SSN", "radius", 1, 200),
)
_SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚", "x": "✖"}
_DASHARRAYS = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}


def geometry(grids: Sequence[Grid]) -> str:
    """The tables and figures of scores by geometry; nothing where there is none."""
    scores = {grid.score for grid in grids}
    title = scores.pop().title if len(scores) == 1 else "Scores"
    return section(f"{title} by geometry", *map(_grid, grids))


def _grid(grid: Grid) -> str:
    drawing = by_samples(grid)
    styles = figures.norm_styles(list(grid.rows.values()))
    drawn = []
    if drawing is not None:
        said = ""
        if any(cell.spread is not None for cell in grid.cells.values()):
            said = "The line is the mean over seeds, the band its spread. "
        if others := unusual_gpus(grid):
            said += f"Open symbols and dotted lines: {', '.join(map(_gpus, others))}."
        drawn.append(_line_legend(list(grid.rows), styles))
        caption = f"{grid.score.title} by samples per GPU, {grid.network} on {grid.data}"
        drawn.append(figure(drawing, caption, f"{caption}: a line for each normalizer"))
        drawn.append(note(said))
    return f"<article>{''.join(drawn)}{table(grid_table(grid))}</article>"


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def results(groups: Sequence[Group]) -> str:
    """The table of scores by normalizer, one for each task."""
    rows = tables.results(groups)
    said = "Best is the best epoch of each run, so it is a little generous."
    if any(row.spread is not None for row in rows):
        said += " ± is the sample standard deviation over seeds."
    if any(row.baseline for row in rows):
        said += " “vs BN” is in points, against BN on the same data and network at the same samples per GPU."
    remarks = dict.fromkeys(row.score.remark for row in rows if row.score.remark)
    return section("Results", note(" ".join([said, *remarks])), *_by_task(groups, _results))


def _by_task(groups: Sequence[Group], draw: Callable[[Score, Sequence[Group]], str]) -> Iterator[str]:
    """What `draw` makes of the groups of each task: under its name where there are several, many by geometry."""
    tasks = by_score(groups)
    for score, members in tasks.items():
        yield f"<h3>{score.task.capitalize()}</h3>" if len(tasks) > 1 else ""
        for title, some in fold(members).items():
            yield folded(title, draw(score, some))


def _results(_: Score, groups: Sequence[Group]) -> str:
    return table(results_table(tables.results(groups)))


def curves(groups: Sequence[Group]) -> str:
    """Metrics over epochs, with one legend for all of a task; too many of them for one figure by geometry."""
    seeds = any(len(group.runs) > 1 for group in groups)
    said = "The mean over seeds, in a band from the lowest to the highest seed." if seeds else ""
    return section("Training", note(said), *_by_task(groups, _curves))


def _curves(score: Score, groups: Sequence[Group]) -> str:
    panels = []
    for caption, column, scale, height in (*_score_curves(score), *_CURVES):
        drawing = figures.curve(groups, column, scale, height)
        if drawing is not None:
            panels.append(figure(drawing, caption, f"{caption}, over epochs, a line for each normalizer"))
    return _line_legend([group.label for group in groups], figures.line_styles(groups)) + stacked(panels)


def _score_curves(score: Score) -> Iterator[_Panel]:
    for name, column in ((score.name, score.column), *score.others[:1]):
        yield f"Validation {name}, %", column, 100, 320


def _line_legend(labels: Sequence[str], styles: Sequence[figures.Style]) -> str:
    items = []
    for place, (label, style) in enumerate(zip(labels, styles, strict=True)):
        button = f'<button type="button" value="{place}" aria-pressed="true">{_swatch(style)}{escape(label)}</button>'
        items.append(f"<li>{button}</li>")
    return f'<ul class="legend" aria-label="Show or hide a normalizer">{"".join(items)}</ul>'


def _swatch(style: figures.Style) -> str:
    return (
        f'<svg viewBox="0 0 30 12" aria-hidden="true"><line x1="0" x2="30" y1="6" y2="6" stroke="{style.colour}" '
        f'stroke-width="2.5" stroke-dasharray="{_DASHARRAYS[style.dash]}"/>'
        f'<text x="15" y="10" font-size="11" text-anchor="middle" fill="{style.colour}">{_SYMBOLS[style.symbol]}</text>'
        "</svg>"
    )


def choices(groups: Sequence[Group]) -> str:
    """What each layer chose, for every group whose layers mix statistics; nothing where none does."""
    mixing = [group for group in groups if group.runs[0].choices]
    if not mixing:
        return ""
    statistics = all_statistics(layer for group in mixing for layer in group.runs[0].choices)
    legend = {statistic: figures.statistic_colour(statistic) for statistic in statistics}
    intro = note(
        "The importance of each statistic: its weight after softmax (SN) or sparsestmax (SSN). "
        "The network’s first layer is on top."
    )
    folds = (folded(title, "".join(map(_choice, members))) for title, members in fold(mixing).items())
    return section("What each layer chose", intro, colour_legend(legend, "Colours of the statistics"), *folds)


def _choice(group: Group) -> str:
    """One run of the group: the bars of its parts, and the numbers."""
    run = group.runs[0]
    said = note(f"Run {run.name}, seed {run.seed}. {mixture(run.choices)}")
    drawn = (_part(title, layers, group.label) for title, layers in parts(run).items())
    numbers = table(importance_table(run.choices, f"Importance in {run.name} after epoch {max(run.importance)}"))
    return f"<h3>{escape(group.label)}</h3>{said}{''.join(drawn)}{folded('Numbers', numbers)}"


def _part(title: str, importance: Mapping[int, Sequence[LayerWeights]], label: str) -> str:
    """A part of a network: its bars with a slider over epochs, and how they came about."""
    last = importance[max(importance)]
    said = mixture(last)
    whose = f"{title.lower()} of {label}" if title else label
    bars, evolution = figures.choice(importance), figures.evolution(importance)
    epochs = [frame.name for frame in bars.frames]
    panels = [figure(bars, "By layer", f"Importance by layer of {whose}. {said}", _slider(epochs))]
    if evolution is not None:
        panels.append(figure(evolution, "Average over layers", f"How the average of {whose} came about. {said}"))
    heading = f"<h4>{title}</h4>{note(said)}" if title else ""
    return heading + stacked(panels)


def _slider(epochs: Sequence[str]) -> str:
    if len(epochs) < 2:
        return ""
    last = len(epochs) - 1
    return (
        f'<label class="slider">epoch <input type="range" min="0" max="{last}" value="{last}" '
        f'data-epochs="{" ".join(epochs)}" aria-valuetext="epoch {epochs[-1]}"><output>{epochs[-1]}</output></label>'
    )


def provenance(groups: Sequence[Group]) -> str:
    """Where every run came from, and its whole configuration."""
    folds = (
        folded(title, "".join(_origin(group, run) for group in members for run in group.runs))
        for title, members in fold(groups).items()
    )
    return section("Provenance", *folds)


def _origin(group: Group, run: Run) -> str:
    took = run.provenance.get("seconds")
    facts = (f"seed {run.seed}", str(run.provenance.get("status", "unknown status")), duration(took))
    config = escape(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    record = _facts({"folder": run.path, **run.provenance})
    whole = f"<details><summary>Configuration</summary><pre>{config}</pre></details>"
    return folded(group.label, record + whole, " · ".join(facts))


def _facts(facts: Mapping[str, Any]) -> str:
    rows = (f"<dt>{escape(str(name))}</dt><dd>{_fact(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(name))} {_fact(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return escape(" ".join(map(str, value)))
    return escape("–" if value is None else str(value))
