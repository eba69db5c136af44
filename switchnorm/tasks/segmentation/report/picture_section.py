"""The section of pictures: some of the test set, with their targets and what each run makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switchnorm.report.common.elements import folded, note, section
from switchnorm.report.common.groups import Group
from switchnorm.report.common.legends import colour_legend
from switchnorm.report.common.numbers import counted
from switchnorm.report.common.run_pictures import picture_figure, picture_row
from switchnorm.report.geometry.by_data import first_seed_note
from switchnorm.tasks.segmentation.files import Example
from switchnorm.tasks.segmentation.report.shown import Details, Shown, by_data_set, class_colours

# The label of pixels that do not count, as switchnorm.data.segmentation has it, which would import torch.
_IGNORED = 255
_FEW_PICTURES = 4
# So many predictions of a picture can be looked at side by side.
_FEW_RUNS, _MOST_COLUMNS = 6, 5


def picture_section(groups: Sequence[Group], details: Details) -> str:
    """Test pictures with their targets and what each run makes of them; nothing where no run keeps any."""
    known = [group for group in groups if (found := details.get(group.runs[0].path)) and found.examples]
    return section("Pictures", note(first_seed_note(known).strip()), *by_data_set(known, details, _pictures))


def _pictures(shown: Sequence[Shown]) -> str:
    """A row for each picture, and what the colours stand for."""
    runs = shown[:_FEW_RUNS]
    rows = _rows(runs)
    left_out = len(shown) - len(runs)
    said = [f"After epoch {_epochs(runs)}. A picture’s mean IoU is over the classes in its truth or prediction."]
    if _IGNORED in _labels(runs):
        said.append("What is hatched does not count.")
    if left_out:
        said.append(f"The predictions of {left_out} more {'run is' if left_out == 1 else 'runs are'} left out.")
    drawn = [_row(name, row) for name, row in rows.items()]
    rest = drawn[_FEW_PICTURES:]
    more = folded(counted(len(rest), "more picture"), "".join(rest)) if rest else ""
    legend = colour_legend(_present(runs), "Colours of the classes")
    return note(" ".join(said)) + legend + "".join(drawn[:_FEW_PICTURES]) + more


def _rows(shown: Sequence[Shown]) -> dict[str, dict[str, Example]]:
    """By name of the picture, what each run, by its label, has of it."""
    rows: dict[str, dict[str, Example]] = {}
    for label, _, scenes in shown:
        for example in scenes.examples.pictures if scenes.examples else ():
            rows.setdefault(example.name, {})[label] = example
    return rows


def _row(name: str, examples: Mapping[str, Example]) -> str:
    first = next(iter(examples.values()))
    shown = [
        picture_figure(first.picture, name, f"Test picture {name}"),
        picture_figure(first.target, "truth", f"The true classes of {name}", "mask"),
        *(
            picture_figure(
                each.prediction, _quality(label, each), f"The classes of {name} as {label} predicts them", "mask"
            )
            for label, each in examples.items()
        ),
    ]
    return picture_row(shown, _MOST_COLUMNS)


def _quality(label: str, example: Example) -> str:
    numbers = (("pixel accuracy", example.accuracy), ("mean IoU", example.mean_iou))
    said = ", ".join(f"{name}\u00a0{100 * value:.1f}\u00a0%" for name, value in numbers if value is not None)
    return f"{label}: {said}" if said else label


def _present(shown: Sequence[Shown]) -> dict[str, str]:
    """The colours of the classes that some mask shows."""
    colours = list(class_colours(shown).items())
    return dict(colours[label] for label in sorted(_labels(shown)) if label < len(colours))


def _labels(shown: Sequence[Shown]) -> set[int]:
    """All that is in some mask."""
    examples = (each for one in shown if one.scenes.examples for each in one.scenes.examples.pictures)
    return {label for each in examples for mask in (each.target, each.prediction) for label in mask.labels}


def _epochs(shown: Sequence[Shown]) -> str:
    epochs = sorted({one.scenes.examples.epoch for one in shown if one.scenes.examples})
    return str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
