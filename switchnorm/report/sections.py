"""The page's sections as HTML. Every word that comes from a run passes through `escape`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import yaml

from switchnorm.report import figures, tables
from switchnorm.report.folds import fold
from switchnorm.report.grid import Grid
from switchnorm.report.grid_figure import by_samples, unusual_gpus
from switchnorm.report.grid_table import grid_table
from switchnorm.report.groups import Group
from switchnorm.report.runs import Run
from switchnorm.report.tables import (
    Cell,
    Table,
    all_statistics,
    duration,
    importance_table,
    results_table,
)
from switchnorm.report.words import mixture

# Caption, column of metrics.csv, scale, and height of each panel; one that no run has measured is left out.
_CURVES = (
    ("Validation accuracy, %", "val_accuracy", 100, 320),
    ("Training loss", "train_loss", 1, 320),
    ("Learning rate", "learning_rate", 1, 200),
    ("Radius of SSN", "radius", 1, 200),
)
_SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚", "x": "✖"}
_DASHARRAYS = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}


def geometry(grids: Sequence[Grid]) -> str:
    """The tables and figures of accuracy by geometry; nothing where there is none."""
    return _section("Accuracy by geometry", *map(_grid, grids)) if grids else ""


def _grid(grid: Grid) -> str:
    figure = by_samples(grid)
    styles = figures.norm_styles(list(grid.rows.values()))
    parts = []
    if figure is not None:
        said = ""
        if any(cell.spread is not None for cell in grid.cells.values()):
            said = "The line is the mean over seeds, the band its spread. "
        if others := unusual_gpus(grid):
            said += f"Open symbols and dotted lines: {', '.join(map(_gpus, others))}."
        parts.append(_line_legend(list(grid.rows), styles))
        caption = f"Accuracy by samples per GPU, {grid.network} on {grid.data}"
        parts.append(_figure(figure, escape(caption), f"{caption}: a line for each normalizer"))
        parts.append(f'<p class="note">{said}</p>' if said else "")
    return f"<article>{''.join(parts)}{_table(grid_table(grid))}</article>"


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def results(groups: Sequence[Group]) -> str:
    """The table of accuracy by normalizer."""
    rows = tables.results(groups)
    note = "Best is the best epoch of each run, so it is a little generous."
    if any(row.spread is not None for row in rows):
        note += " ± is the sample standard deviation over seeds."
    if any(row.baseline for row in rows):
        note += " “vs BN” is in points, against BN on the same data and network at the same samples per GPU."
    folds = (_folded(title, _table(results_table(tables.results(some)))) for title, some in fold(groups).items())
    return _section("Results", f'<p class="note">{note}</p>', *folds)


def curves(groups: Sequence[Group]) -> str:
    """Metrics over epochs, with one legend for all of them; too many of them for one figure by geometry."""
    seeds = any(len(group.runs) > 1 for group in groups)
    note = '<p class="note">The mean over seeds, in a band from the lowest to the highest seed.</p>' if seeds else ""
    return _section("Training", note, *(_folded(title, _curves(members)) for title, members in fold(groups).items()))


def _folded(title: str, content: str) -> str:
    """The content behind a line that opens it; as it is where there is no title."""
    if not title:
        return content
    return f'<details><summary>{escape(title)}</summary><div class="body">{content}</div></details>'


def _curves(groups: Sequence[Group]) -> str:
    panels = []
    for caption, column, scale, height in _CURVES:
        figure = figures.curve(groups, column, scale, height)
        if figure is not None:
            panels.append(_figure(figure, caption, f"{caption}, over epochs, a line for each normalizer"))
    legend = _line_legend([group.label for group in groups], figures.line_styles(groups))
    return f'{legend}<div class="grid">{"".join(panels)}</div>'


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
    intro = (
        '<p class="note">The importance of each statistic: its weight after softmax (SN) or sparsestmax (SSN). '
        "The network’s first layer is on top.</p>"
    )
    folds = (_folded(title, "".join(map(_choice, members))) for title, members in fold(mixing).items())
    return _section("What each layer chose", intro, _statistic_legend(statistics), *folds)


def _statistic_legend(statistics: Sequence[str]) -> str:
    items = (
        f'<li><svg viewBox="0 0 30 12" aria-hidden="true"><rect width="30" height="12" rx="2" '
        f'fill="{figures.statistic_colour(statistic)}"/></svg>{escape(statistic)}</li>'
        for statistic in statistics
    )
    return f'<ul class="legend" aria-label="Colours of the statistics">{"".join(items)}</ul>'


def _choice(group: Group) -> str:
    """One run of the group: its bars with a slider over epochs, how they came about, and the numbers."""
    run = group.runs[0]
    said = mixture(run.choices)
    bars, evolution = figures.choice(run), figures.evolution(run)
    epochs = [frame.name for frame in bars.frames]
    panels = [_figure(bars, "By layer", f"Importance by layer of {group.label}. {said}", _slider(epochs))]
    if evolution is not None:
        panels.append(_figure(evolution, "Average over layers", f"How the average came about. {said}"))
    table = _table(importance_table(run.choices, f"Importance in {run.name} after epoch {max(run.importance)}"))
    return (
        f"<h3>{escape(group.label)}</h3>"
        f'<p class="note">Run {escape(run.name)}, seed {escape(str(run.seed))}. {escape(said)}</p>'
        f'<div class="grid">{"".join(panels)}</div>'
        f'<details><summary>Numbers</summary><div class="body">{table}</div></details>'
    )


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
        _folded(title, "".join(_origin(group, run) for group in members for run in group.runs))
        for title, members in fold(groups).items()
    )
    return _section("Provenance", *folds)


def _origin(group: Group, run: Run) -> str:
    took = run.provenance.get("seconds")
    facts = (f"seed {run.seed}", str(run.provenance.get("status", "unknown status")), duration(took))
    config = escape(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    return (
        f"<details><summary>{escape(group.label)} <span>· {escape(' · '.join(facts))}</span></summary>"
        f'<div class="body">{_facts({"folder": run.path, **run.provenance})}'
        f"<details><summary>Configuration</summary><pre>{config}</pre></details></div></details>"
    )


def _facts(facts: Mapping[str, Any]) -> str:
    rows = (f"<dt>{escape(str(name))}</dt><dd>{_fact(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(name))} {_fact(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return escape(" ".join(map(str, value)))
    return escape("–" if value is None else str(value))


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{''.join(parts)}\n</section>"


def _figure(figure: go.Figure, caption: str, description: str, control: str = "") -> str:
    """A figure as data, which page.js draws into the element before it."""
    # "<" is the only character that could end the script element early.
    data = figure.to_json().replace("<", "\\u003c")
    return (
        f"<figure><figcaption>{caption}</figcaption>"
        f'<div class="plot" role="img" aria-busy="true" aria-label="{escape(description)}" '
        f'style="height: {figure.layout.height}px"></div>'
        f'<script type="application/json">{data}</script>{control}</figure>'
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.columns)
    blocks = "".join(
        f"<tbody>{''.join(map(_row, table.rows[start:end]))}</tbody>"
        for start, end in itertools.pairwise([0, *table.blocks, len(table.rows)])
    )
    caption = escape(table.caption)
    notes = f'<p class="note">{"<br>".join(map(escape, table.notes))}</p>' if table.notes else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead>{blocks}</table></div>{notes}"
    )


def _row(row: Sequence[Cell]) -> str:
    return f"<tr>{''.join(_cell(cell, place == 0) for place, cell in enumerate(row))}</tr>"


def _cell(cell: Cell, is_name: bool) -> str:
    kinds = " ".join(["best"] * cell.strong + ["share"] * (cell.share is not None))
    share = "" if cell.share is None else f' style="--share: {100 * cell.share:.0f}%"'
    name, attributes = ("th", ' scope="row"') if is_name else ("td", "")
    marked = f' class="{kinds}"' if kinds else ""
    return f"<{name}{attributes}{marked}{share}>{escape(cell.text)}</{name}>"
