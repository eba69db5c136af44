"""Classes in tables: all of them while they are few, else the best and the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from switchnorm.report.common.elements import folded, note, side_by_side, table
from switchnorm.report.common.table import Table

#: Up to so many classes are shown at once; of more, so many of the best and of the worst, and all behind a fold.
FEW_CLASSES = 30
_ENDS, _FEW_NAMES = 10, 24


def ends(ranked: Sequence[str], build: Callable[[Sequence[str], str], Table]) -> str:
    """A table of all classes while they are few; else of the best and of the worst, and behind a line of all.

    Args:
        ranked: the classes, the best first.
        build: from some of them, and which these are in words, to a table.
    """
    if len(ranked) <= FEW_CLASSES:
        return table(build(ranked, "each class"))
    extremes = (
        build(ranked[:_ENDS], f"the {_ENDS} best classes"),
        build(ranked[-_ENDS:], f"the {_ENDS} worst classes"),
    )
    every = table(build(ranked, f"all {len(ranked)} classes"))
    return side_by_side([f"<div>{table(end)}</div>" for end in extremes]) + folded(f"All {len(ranked)} classes", every)


def absent(names: Sequence[str], what: str) -> str:
    """A note on classes that the tables lack, "In neither truth nor prediction"; nothing where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - _FEW_NAMES} more" if len(names) > _FEW_NAMES else ""
    return note(f"{what}: {', '.join(names[:_FEW_NAMES])}{more}.")


def best_first(found: Iterable[Mapping[str, float | None]]) -> tuple[list[str], list[str]]:
    """The classes by the mean of a value over runs, the best first; then those of which no run has one.

    Args:
        found: of each run, the value of each class by its name.
    """
    values: dict[str, list[float]] = {}
    for by_class in found:
        for name, value in by_class.items():
            values.setdefault(name, []).extend([] if value is None else [value])
    ranked = sorted((name for name in values if values[name]), key=lambda name: -fmean(values[name]))
    return ranked, [name for name in values if not values[name]]
