"""What the sections show: of each group its first run, with the files that only detection has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from switchnorm.report.common.groups import Group
from switchnorm.report.geometry import by_data
from switchnorm.tasks.detection.files import Details

#: By the folder of a run, what its files say.
AllDetails = Mapping[Path, Details]


class Shown(NamedTuple):
    """A group, and what its first run says besides its scores."""

    group: Group
    details: Details

    @property
    def label(self) -> str:
        """What the group is called."""
        return self.group.label


def by_data_set(groups: Sequence[Group], details: AllDetails, draw: Callable[[Sequence[Shown]], str]) -> Iterator[str]:
    """What `draw` makes of the runs on each data set, see `by_data.by_data_set`."""

    def classes(group: Group) -> tuple[str, ...]:
        found = details[group.runs[0].path]
        return tuple(each.name for each in found.classes) or tuple(found.colours)

    def shown(some: Sequence[Group]) -> str:
        return draw([Shown(group, details[group.runs[0].path]) for group in some])

    return by_data.by_data_set(groups, classes, shown)


def class_colours(shown: Sequence[Shown]) -> dict[str, str]:
    """The colours of the classes, in the order of labels, from the first run that knows them."""
    return next((one.details.colours for one in shown if one.details.colours), {})
