"""The section of pictures: some of the test set, with their objects and with what each run finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switchnorm.report.common.elements import folded, note, section
from switchnorm.report.common.groups import Group
from switchnorm.report.common.legends import colour_legend
from switchnorm.report.common.numbers import counted
from switchnorm.report.common.run_pictures import picture_figure, picture_row
from switchnorm.report.geometry.by_data import first_seed_note
from switchnorm.tasks.detection.files import Example
from switchnorm.tasks.detection.report.shown import AllDetails, Shown, by_data_set, class_colours

_FEW_PICTURES = 4
# So many runs can be looked at side by side; boxes need more room than masks.
_FEW_RUNS, _MOST_COLUMNS = 6, 3
_FEW_CLASSES = 30


def picture_section(groups: Sequence[Group], details: AllDetails) -> str:
    """Test pictures with their objects and with what each run finds; nothing where no run keeps any."""
    known = [group for group in groups if (found := details.get(group.runs[0].path)) and found.examples]
    return section("Pictures", note(first_seed_note(known).strip()), *by_data_set(known, details, _pictures))


def _pictures(shown: Sequence[Shown]) -> str:
    """A row for each picture, and what the colours stand for."""
    runs = shown[:_FEW_RUNS]
    left_out = len(shown) - len(runs)
    said = [
        f"After epoch {_spans([one.details.examples.epoch for one in runs if one.details.examples])}.",
        f"Drawn are detections of a score of {_least(runs)} and more, with the score in %. An object is found where a "
        "detection of its class overlaps it by half or more.",
    ]
    if left_out:
        said.append(f"The detections of {left_out} more {'run is' if left_out == 1 else 'runs are'} left out.")
    drawn = [_row(name, row) for name, row in _rows(runs).items()]
    rest = drawn[_FEW_PICTURES:]
    more = folded(counted(len(rest), "more picture"), "".join(rest)) if rest else ""
    colours = class_colours(runs)
    # Every box has the name of its class: a long legend would only push the pictures down.
    legend = colour_legend(colours, "Colours of the classes") if len(colours) <= _FEW_CLASSES else ""
    return note(" ".join(said)) + legend + "".join(drawn[:_FEW_PICTURES]) + more


def _rows(shown: Sequence[Shown]) -> dict[str, dict[str, Example]]:
    """By name of the picture, what each run, by its label, has of it."""
    rows: dict[str, dict[str, Example]] = {}
    for one in shown:
        for example in one.details.examples.pictures if one.details.examples else ():
            rows.setdefault(example.name, {})[one.label] = example
    return rows


def _row(name: str, examples: Mapping[str, Example]) -> str:
    first = next(iter(examples.values()))
    objects = counted(first.right + first.missed, "object")
    return picture_row(
        [
            picture_figure(first.objects, f"{name}: {objects}", f"The objects on test picture {name}"),
            *(
                picture_figure(each.found, f"{label}: {_said(each)}", f"What {label} finds on {name}: {_said(each)}")
                for label, each in examples.items()
            ),
        ],
        _MOST_COLUMNS,
    )


def _said(example: Example) -> str:
    return f"{example.right}\u00a0found, {example.missed}\u00a0missed, {example.wrong}\u00a0wrong"


def _least(shown: Sequence[Shown]) -> str:
    return _spans([round(100 * one.details.examples.shown) for one in shown if one.details.examples]) + "\u00a0%"


def _spans(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
