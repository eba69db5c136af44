"""The page's section on what each layer chose."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from switchnorm.report.common.elements import figure, folded, note, section, side_by_side, table
from switchnorm.report.common.figures import statistic_colour
from switchnorm.report.common.groups import Group
from switchnorm.report.common.legends import colour_legend
from switchnorm.report.geometry.folds import fold
from switchnorm.report.importance.importance_figures import Importance, average_over_epochs, bars_by_layer
from switchnorm.report.importance.importance_table import importance_table
from switchnorm.report.importance.mixture import all_statistics, mixture
from switchnorm.report.importance.network_parts import network_parts


def importance_section(groups: Sequence[Group]) -> str:
    """What each layer chose, for every group whose layers mix statistics; nothing where none does."""
    mixing = [group for group in groups if group.runs[0].choices]
    if not mixing:
        return ""
    statistics = all_statistics(layer for group in mixing for layer in group.runs[0].choices)
    legend = {statistic: statistic_colour(statistic) for statistic in statistics}
    intro = note(
        "The importance of each statistic: its weight after softmax (SN) or sparsestmax (SSN). "
        "The network’s first layer is on top."
    )
    folds = (folded(title, "".join(map(_group, members))) for title, members in fold(mixing).items())
    return section("What each layer chose", intro, colour_legend(legend, "Colours of the statistics"), *folds)


def _group(group: Group) -> str:
    """One run of the group: the bars of its parts, and the numbers."""
    run = group.runs[0]
    said = note(f"Run {run.name}, seed {run.seed}. {mixture(run.choices)}")
    drawn = (_part(title, layers, group.label) for title, layers in network_parts(run).items())
    numbers = table(importance_table(run.choices, f"Importance in {run.name} after epoch {max(run.importance)}"))
    return f"<h3>{escape(group.label)}</h3>{said}{''.join(drawn)}{folded('Numbers', numbers)}"


def _part(title: str, importance: Importance, label: str) -> str:
    """A part of a network: its bars with a slider over epochs, and how they came about."""
    last = importance[max(importance)]
    said = mixture(last)
    whose = f"{title.lower()} of {label}" if title else label
    bars, average = bars_by_layer(importance), average_over_epochs(importance)
    epochs = [frame.name for frame in bars.frames]
    panels = [figure(bars, "By layer", f"Importance by layer of {whose}. {said}", _slider(epochs))]
    if average is not None:
        panels.append(figure(average, "Average over layers", f"How the average of {whose} came about. {said}"))
    heading = f"<h4>{title}</h4>{note(said)}" if title else ""
    return heading + side_by_side(panels)


def _slider(epochs: Sequence[str]) -> str:
    if len(epochs) < 2:
        return ""
    last = len(epochs) - 1
    return (
        f'<label class="slider">epoch <input type="range" min="0" max="{last}" value="{last}" '
        f'data-epochs="{" ".join(epochs)}" aria-valuetext="epoch {epochs[-1]}"><output>{epochs[-1]}</output></label>'
    )
