"""What the sections show: of each group its first run, with the files that only segmentation has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from switchnorm.report.common.groups import Group
from switchnorm.report.geometry import by_data
from switchnorm.runs.run import Run
from switchnorm.tasks.segmentation.files import Scenes

#: By the folder of a run, what its files say.
Details = Mapping[Path, Scenes]


class Shown(NamedTuple):
    """A group's first run, and what it says besides its scores."""

    label: str
    run: Run
    scenes: Scenes


def by_data_set(groups: Sequence[Group], details: Details, draw: Callable[[Sequence[Shown]], str]) -> Iterator[str]:
    """What `draw` makes of the runs on each data set, see `by_data.by_data_set`."""

    def classes(group: Group) -> tuple[str, ...]:
        found = details[group.runs[0].path]
        return tuple(each.name for each in found.classes) or tuple(found.colours)

    def shown(some: Sequence[Group]) -> str:
        return draw([Shown(group.label, group.runs[0], details[group.runs[0].path]) for group in some])

    return by_data.by_data_set(groups, classes, shown)


def class_colours(shown: Sequence[Shown]) -> dict[str, str]:
    """The colours of the classes, in the order of labels, from the first run that knows them."""
    return next((one.scenes.colours for one in shown if one.scenes.colours), {})
