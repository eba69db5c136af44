"""The classes of segmentation as tables: how well each is found, and which are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from switchnorm.report.common.numbers import percent
from switchnorm.report.common.table import Cell, Table
from switchnorm.tasks.segmentation.files import ClassScore, Confusion

_FEW_PAIRS = 20


def class_table(scores: Sequence[ClassScore], colours: Mapping[str, str], caption: str, total: int) -> Table:
    """A row per class in the order given: IoU as a bar, accuracy, and its share of all pixels.

    Args:
        scores: of the classes to show.
        colours: of the classes whose colour is known, by name.
        caption: the table's.
        total: pixels of all classes, also of those that are not shown.
    """
    rows = (
        (
            Cell(each.name, colour=colours.get(each.name)),
            Cell(percent(each.iou), share=each.iou),
            Cell(percent(each.accuracy)),
            Cell(_share(each.pixels, total)),
        )
        for each in scores
    )
    return Table(caption, ("Class", "IoU %", "Accuracy %", "Pixels %"), tuple(rows))


def comparison_table(
    by_label: Mapping[str, Sequence[ClassScore]], names: Sequence[str], colours: Mapping[str, str], caption: str
) -> Table:
    """A row per class: its share of all pixels, and the IoU of each run as a bar, the best strong.

    Args:
        by_label: the classes of each run; the same ones in each.
        names: the classes to show, in this order.
        colours: of the classes whose colour is known, by name.
        caption: the table's.
    """
    scores = {label: {each.name: each for each in classes} for label, classes in by_label.items()}
    first = next(iter(scores.values()))
    total = sum(each.pixels for each in first.values())
    rows = []
    for name in names:
        texts = [percent(found[name].iou) for found in scores.values()]
        best = percent(max((found[name].iou or 0 for found in scores.values()), default=0))
        cells = (
            Cell(text, strong=text == best != percent(0.0), share=found[name].iou)
            for text, found in zip(texts, scores.values(), strict=True)
        )
        rows.append((Cell(name, colour=colours.get(name)), Cell(_share(first[name].pixels, total)), *cells))
    return Table(caption, ("Class", "Pixels %", *(f"{label} IoU %" for label in by_label)), tuple(rows))


class Mistake(NamedTuple):
    """Pixels of one class that were taken for another."""

    target: str
    predicted: str
    pixels: int
    of_class: float
    """Their share of all pixels of the class `target`."""
    of_all: float
    """Their share of all mistaken pixels."""


def mistakes(confusion: Confusion) -> list[Mistake]:
    """The pairs of classes that are confused, the most pixels first."""
    pairs = [
        (target, predicted, count, count / sum(row))
        for target, row in zip(confusion.names, confusion.counts, strict=True)
        for predicted, count in zip(confusion.names, row, strict=True)
        if predicted != target and count
    ]
    total = sum(count for _, _, count, _ in pairs)
    return [Mistake(*pair, of_all=pair[2] / total) for pair in sorted(pairs, key=lambda pair: -pair[2])]


def mistake_table(confusion: Confusion, colours: Mapping[str, str], caption: str) -> Table:
    """The twenty pairs of classes between which the most pixels are mistaken."""
    rows = tuple(
        (
            Cell(each.target, colour=colours.get(each.target)),
            Cell(each.predicted, colour=colours.get(each.predicted)),
            Cell(f"{100 * each.of_class:.1f}", share=each.of_class),
            Cell(f"{100 * each.of_all:.1f}"),
        )
        for each in mistakes(confusion)[:_FEW_PAIRS]
    )
    return Table(caption, ("Class", "taken for", "% of the class", "% of all mistakes"), rows)


def _share(pixels: int, total: int) -> str:
    share = 100 * pixels / total if total else 0.0
    return f"{share:.2f}" if share >= 0.005 or not pixels else "< 0.01"
