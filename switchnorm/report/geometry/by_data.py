"""Groups of runs that can be shown beside each other class by class: those on one test data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from switchnorm.report.common.elements import folded
from switchnorm.report.common.groups import Group
from switchnorm.report.geometry.folds import fold


def by_data_set(
    groups: Sequence[Group], classes: Callable[[Group], tuple[str, ...]], draw: Callable[[Sequence[Group]], str]
) -> Iterator[str]:
    """What `draw` makes of the groups on each data set: under its name where there are several, many by geometry.

    Args:
        groups: all of them.
        classes: of a group, as its files name them.
        draw: from groups to HTML.
    """
    by_data: dict[tuple[str, tuple[str, ...]], list[Group]] = {}
    for group in groups:
        by_data.setdefault((group.data, classes(group)), []).append(group)
    for (data, _), members in by_data.items():
        yield f"<h3>{escape(data)}</h3>" if len(by_data) > 1 else ""
        for title, some in fold(members).items():
            yield folded(title, draw(some))


def first_seed_note(groups: Sequence[Group]) -> str:
    """A sentence for the case that seeds are left out; else nothing."""
    return " Of several seeds the first is shown." if any(len(group.runs) > 1 for group in groups) else ""
