"""What the sections show: of each group its first run, with the files that only segmentation has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from switchnorm.report.common.elements import folded
from switchnorm.report.common.groups import Group
from switchnorm.report.geometry.folds import fold
from switchnorm.runs.run import Run
from switchnorm.tasks.segmentation.files import Scenes

#: By the folder of a run, what its files say.
Details = Mapping[Path, Scenes]


class Shown(NamedTuple):
    """A group's first run, and what it says besides its scores."""

    label: str
    run: Run
    scenes: Scenes


def first_seed_note(groups: Sequence[Group]) -> str:
    """A sentence for the case that seeds are left out; else nothing."""
    return " Of several seeds the first is shown." if any(len(group.runs) > 1 for group in groups) else ""


def by_data_set(groups: Sequence[Group], details: Details, draw: Callable[[Sequence[Shown]], str]) -> Iterator[str]:
    """What `draw` makes of the runs on each data set: under its name where there are several, many by geometry."""
    by_data: dict[tuple[str, tuple[str, ...]], list[Group]] = {}
    for group in groups:
        found = details[group.runs[0].path]
        names = tuple(each.name for each in found.classes) or tuple(found.colours)
        by_data.setdefault((str(group.settings.get("data.name")), names), []).append(group)
    for (data, _), members in by_data.items():
        yield f"<h3>{escape(data)}</h3>" if len(by_data) > 1 else ""
        for title, some in fold(members).items():
            shown = [Shown(group.label, group.runs[0], details[group.runs[0].path]) for group in some]
            yield folded(title, draw(shown))


def class_colours(shown: Sequence[Shown]) -> dict[str, str]:
    """The colours of the classes, in the order of labels, from the first run that knows them."""
    return next((one.scenes.colours for one in shown if one.scenes.colours), {})
