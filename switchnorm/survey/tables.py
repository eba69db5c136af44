"""What was found as tables: the terminal and the page show the same ones."""

from __future__ import annotations

from collections import Counter

import numpy as np

from switchnorm.data.files.opening import sides
from switchnorm.report.common.table import Cell, Table
from switchnorm.survey.findings import Seen
from switchnorm.survey.summary import Summary
from switchnorm.survey.whole import Survey

#: Up to so many classes are shown in their order; of more, so many of the rarest and of the most frequent.
_FEW_CLASSES, _RAREST, _MOST = 24, 12, 4


def split_table(survey: Survey) -> Table:
    """A column for each split: how many pictures, of which sizes, kinds and values."""
    columns = [_column(one, survey.normalized) for one in survey.seen]
    rows = {title: None for column in columns for title in column}
    return Table(
        "What is there",
        ("Split", *(one.summary.name for one in survey.seen)),
        tuple((Cell(title), *(Cell(column.get(title, "–")) for column in columns)) for title in rows),
        notes=tuple(_notes(survey)),
    )


def _column(one: Seen, normalized: bool) -> dict[str, str]:
    summary = one.summary
    found = {"pictures": f"{summary.total:,}"}
    if not summary.complete:
        found["looked at"] = f"{summary.looked:,}"
    found |= _sizes(summary)
    if summary.kinds:
        found["files"] = _shares(_by(summary, 0))
        found["modes"] = _shares(_by(summary, 1))
        found["bits"] = _shares(_by(summary, 2))
        found["turned by EXIF"] = f"{summary.orientations.total() - summary.orientations[1]:,}"
    if summary.range is not None:
        found["values"] = "{:g} to {:g}".format(*summary.range)
    scale = 1.0 if normalized or one.split is None else one.split.scale
    for title, values in (("mean", summary.mean), ("deviation", summary.std)):
        if values:
            found[title] = " ".join(f"{value / scale:.3f}" for value in values)
    if one.split is not None:
        found |= one.split.stated()
    if summary.unit == "pixels" and summary.counts:
        found["do not count"] = f"{100 * summary.void / summary.counts.total():.2f} %"
    return found


def _notes(survey: Survey) -> list[str]:
    if survey.normalized:
        return ["Mean and deviation are of what the network gets."]
    scales = {one.split.scale for one in survey.seen if one.split is not None and one.summary.mean}
    return ["Mean and deviation are over all pixels, in units of data.mean and data.std."] if scales == {255.0} else []


def _sizes(summary: Summary) -> dict[str, str]:
    sizes = summary.sizes
    if not len(sizes):
        return {}
    distinct, counts = np.unique(sizes, axis=0, return_counts=True)
    common = int(counts.argmax())
    if len(distinct) == 1:
        return {"size": sides(distinct[0])}
    areas = sizes.prod(1)
    return {
        "smallest": sides(sizes[areas.argmin()]),
        "median": sides(sizes[np.argsort(areas, kind="stable")[len(areas) // 2]]),
        "largest": sides(sizes[areas.argmax()]),
        "most frequent": f"{sides(distinct[common])},\n{100 * counts[common] / len(sizes):.1f} %",
    }


def _by(summary: Summary, place: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for kind, count in summary.kinds.items():
        found[str(kind[place])] += count
    return found


def _shares(counts: Counter[str]) -> str:
    """ "JPEG", or "JPEG 90.0 %, PNG 10.0 %" in lines."""
    if len(counts) == 1:
        return next(iter(counts))
    return ",\n".join(f"{name} {100 * count / counts.total():.1f} %" for name, count in counts.most_common())


def class_table(survey: Survey, colours: dict[str, str] | None = None) -> Table:
    """A row for each class: how much of it each split has. Of many classes the rarest come first.

    Args:
        survey: what was found.
        colours: of the classes, by name.
    """
    summaries = [one.summary for one in survey.seen]
    labels = _chosen(survey)
    notes: tuple[str, ...] = ()
    if len(labels) < len(survey.classes):
        between = len(survey.classes) - len(labels)
        notes = (f"The {_RAREST} rarest classes and the {_MOST} most frequent; {between:,} between them are left out.",)
    titles = [title for one in summaries for title in _titles(one)]
    rows = tuple(
        (
            Cell(survey.classes[label], colour=(colours or {}).get(survey.classes[label])),
            *(cell for one in summaries for cell in _cells(one, label)),
        )
        for label in labels
    )
    return Table("Classes", ("Class", *titles), rows, notes=notes)


def _titles(summary: Summary) -> tuple[str, ...]:
    """Of the columns that a split has."""
    if summary.unit == "objects":
        return summary.name, f"{summary.name} %", f"{summary.name} pictures"
    return (
        (f"{summary.name} %", f"{summary.name} masks")
        if summary.unit == "pixels"
        else (summary.name, f"{summary.name} %")
    )


def _cells(summary: Summary, label: int) -> tuple[Cell, ...]:
    count, total = summary.counts[label], summary.counted
    share = count / total if total else 0.0
    text = f"{100 * share:.2f}" if share >= 0.00005 or not count else "< 0.01"
    if summary.unit == "pixels":
        return Cell(text, share=share), Cell(f"{summary.having[label]:,}")
    cells = Cell(f"{count:,}"), Cell(text, share=share)
    return (*cells, Cell(f"{summary.having[label]:,}")) if summary.unit == "objects" else cells


def _chosen(survey: Survey) -> list[int]:
    labels = list(range(len(survey.classes)))
    if len(labels) <= _FEW_CLASSES:
        return labels
    first = survey.seen[0].summary
    ordered = sorted(labels, key=lambda label: first.counts[label])
    return [*ordered[:_RAREST], *ordered[-_MOST:]]
