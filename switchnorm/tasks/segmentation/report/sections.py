"""The page's sections on segmentation: how well each class is found, which are confused, and pictures to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from switchnorm.report.folds import fold
from switchnorm.report.groups import Group
from switchnorm.report.html import colour_legend, folded, note, section, stacked, table
from switchnorm.report.tables import Table
from switchnorm.runs.run import Run
from switchnorm.tasks.segmentation.files import Example, Picture, Scenes, read_scenes
from switchnorm.tasks.segmentation.report.heat_map import heat_map
from switchnorm.tasks.segmentation.report.tables import best_first, class_table, mistake_table, mistakes, side_by_side

#: The label of pixels that do not count, in the masks of all runs.
IGNORED = 255
# So many classes are read as a whole; of more, the best and the worst are shown and the rest is folded away.
_FEW_CLASSES, _ENDS = 30, 10
_FEW_NAMES = 24
_FEW_PICTURES = 4
# So many predictions of a picture can be looked at side by side.
_FEW_RUNS, _MOST_COLUMNS = 6, 5


class Shown(NamedTuple):
    """A group's first run, and what it says besides its scores."""

    label: str
    run: Run
    scenes: Scenes


Details = Mapping[Path, Scenes]


def sections(groups: Sequence[Group]) -> list[str]:
    """The page's sections on groups of segmentation runs."""
    details = {group.runs[0].path: read_scenes(group.runs[0].path) for group in groups}
    return [pictures(groups, details), classes(groups, details)]


def classes(groups: Sequence[Group], details: Details) -> str:
    """How well each class is found, and for which it is taken; nothing where no run says so."""
    known = [group for group in groups if (found := details.get(group.runs[0].path)) and found.classes]
    if not known:
        return ""
    said = "IoU is the share of correct pixels among all that are of a class or were taken for it; the best is on top."
    return section("Class by class", note(said + _first_seed(known)), *_each(known, details, _classes))


def pictures(groups: Sequence[Group], details: Details) -> str:
    """Test pictures with their truth and what each run makes of them; nothing where no run keeps any."""
    known = [group for group in groups if (found := details.get(group.runs[0].path)) and found.examples]
    return section("Pictures", note(_first_seed(known).strip()), *_each(known, details, _pictures))


def _first_seed(groups: Sequence[Group]) -> str:
    return " Of several seeds the first is shown." if any(len(group.runs) > 1 for group in groups) else ""


def _each(groups: Sequence[Group], details: Details, draw: Callable[[Sequence[Shown]], str]) -> Iterator[str]:
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


def _classes(shown: Sequence[Shown]) -> str:
    """The classes of one run, or of several beside each other and then each by itself."""
    if len(shown) == 1:
        return _by_itself(shown[0])
    by_label = {one.label: one.scenes.classes for one in shown}
    ranked, absent = best_first(by_label)
    compared = _ends(ranked, lambda names, which: side_by_side(by_label, names, _colours(shown), f"IoU of {which}"))
    alone = (folded(one.label, _by_itself(one), f"run {one.run.name}") for one in shown)
    return compared + _unmet(absent) + "".join(alone)


def _by_itself(one: Shown) -> str:
    found = {each.name: each for each in one.scenes.classes}
    ranked, absent = best_first({one.label: one.scenes.classes})
    total = sum(each.pixels for each in found.values())

    def build(names: Sequence[str], which: str) -> Table:
        caption = f"{which[0].upper()}{which[1:]} in {one.run.name}"
        return class_table([found[name] for name in names], one.scenes.colours, caption, total)

    found_classes = f"<div>{_ends(ranked, build)}{_unmet(absent)}</div>"
    return f'<div class="beside">{found_classes}<div>{_confusion(one)}</div></div>'


def _ends(ranked: Sequence[str], build: Callable[[Sequence[str], str], Table]) -> str:
    """A table of all classes while they are few; else of the best and of the worst, and behind a line of all."""
    if len(ranked) <= _FEW_CLASSES:
        return table(build(ranked, "each class"))
    ends = (build(ranked[:_ENDS], f"the {_ENDS} best classes"), build(ranked[-_ENDS:], f"the {_ENDS} worst classes"))
    every = table(build(ranked, f"all {len(ranked)} classes"))
    return stacked([f"<div>{table(end)}</div>" for end in ends]) + folded(f"All {len(ranked)} classes", every)


def _unmet(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _FEW_NAMES} more" if len(names) > _FEW_NAMES else ""
    return note(f"In neither truth nor prediction: {', '.join(names[:_FEW_NAMES])}{more}.")


def _confusion(one: Shown) -> str:
    """Which classes are taken for which: a map while they are few, else the pairs that are confused most."""
    confusion = one.scenes.confusion
    if confusion is None:
        return ""
    pairs = mistakes(confusion)
    if not pairs:
        return note("No pixel was mistaken.")
    truth, predicted, _, of_class, of_all = pairs[0]
    said = (
        f"Most often {truth} is taken for {predicted}: {100 * of_class:.0f} % of its pixels, "
        f"and {100 * of_all:.0f} % of all mistakes."
    )
    if len(confusion.names) > _FEW_CLASSES:
        drawn = table(mistake_table(confusion, one.scenes.colours, f"Mistakes of {one.run.name}"))
    else:
        drawn = heat_map(confusion, one.scenes.colours, f"What each class is taken for in {one.run.name}, %")
    return drawn + note(said)


def _pictures(shown: Sequence[Shown]) -> str:
    """A row for each picture, and what the colours stand for."""
    runs = shown[:_FEW_RUNS]
    rows = _rows(runs)
    left_out = len(shown) - len(runs)
    said = [f"After epoch {_epochs(runs)}. A picture’s mean IoU is over the classes in its truth or prediction."]
    if IGNORED in _labels(runs):
        said.append("What is hatched does not count.")
    if left_out:
        said.append(f"The predictions of {left_out} more {'run is' if left_out == 1 else 'runs are'} left out.")
    drawn = [_row(name, row) for name, row in rows.items()]
    rest = drawn[_FEW_PICTURES:]
    more = folded(f"{len(rest)} more picture{'' if len(rest) == 1 else 's'}", "".join(rest)) if rest else ""
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
        _image(first.picture, name, f"Test picture {name}"),
        _image(first.truth, "truth", f"The true classes of {name}", "mask"),
        *(
            _image(each.prediction, _quality(label, each), f"The classes of {name} as {label} predicts them", "mask")
            for label, each in examples.items()
        ),
    ]
    lines = -(-len(shown) // _MOST_COLUMNS)
    return f'<div class="scene" style="--columns: {-(-len(shown) // lines)}">{"".join(shown)}</div>'


def _quality(label: str, example: Example) -> str:
    numbers = (("pixel accuracy", example.accuracy), ("mean IoU", example.mean_iou))
    said = ", ".join(f"{name}\u00a0{100 * value:.1f}\u00a0%" for name, value in numbers if value is not None)
    return f"{label}: {said}" if said else label


def _image(picture: Picture, caption: str, description: str, kind: str = "photo") -> str:
    return (
        f'<figure><img class="{kind}" src="{picture.uri}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(description)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _present(shown: Sequence[Shown]) -> dict[str, str]:
    """The colours of the classes that some mask shows."""
    colours = list(_colours(shown).items())
    return dict(colours[label] for label in sorted(_labels(shown)) if label < len(colours))


def _labels(shown: Sequence[Shown]) -> set[int]:
    """All that is in some mask."""
    examples = (each for one in shown if one.scenes.examples for each in one.scenes.examples.pictures)
    return {label for each in examples for mask in (each.truth, each.prediction) for label in mask.labels}


def _colours(shown: Sequence[Shown]) -> dict[str, str]:
    return next((one.scenes.colours for one in shown if one.scenes.colours), {})


def _epochs(shown: Sequence[Shown]) -> str:
    epochs = sorted({one.scenes.examples.epoch for one in shown if one.scenes.examples})
    return str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
