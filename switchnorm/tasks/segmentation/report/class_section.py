"""The section on classes: how well each is found, and for which it is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from switchnorm.report.common.elements import folded, note, section, side_by_side, table
from switchnorm.report.common.groups import Group
from switchnorm.report.common.table import Table
from switchnorm.tasks.segmentation.report.class_tables import (
    best_first,
    class_table,
    comparison_table,
    mistake_table,
    mistakes,
)
from switchnorm.tasks.segmentation.report.heat_map import heat_map
from switchnorm.tasks.segmentation.report.shown import Details, Shown, by_data_set, class_colours, first_seed_note

# Up to so many classes are shown at once; of more, so many of the best and of the worst, and all behind a fold.
_FEW_CLASSES, _ENDS = 30, 10
_FEW_NAMES = 24


def class_section(groups: Sequence[Group], details: Details) -> str:
    """How well each class is found, and for which it is taken; nothing where no run says so."""
    known = [group for group in groups if (found := details.get(group.runs[0].path)) and found.classes]
    if not known:
        return ""
    said = "IoU is the share of correct pixels among all that are of a class or were taken for it; the best is on top."
    return section("Class by class", note(said + first_seed_note(known)), *by_data_set(known, details, _classes))


def _classes(shown: Sequence[Shown]) -> str:
    """The classes of one run, or of several beside each other and then each by itself."""
    if len(shown) == 1:
        return _by_itself(shown[0])
    by_label = {one.label: one.scenes.classes for one in shown}
    ranked, absent = best_first(by_label)
    compared = _ends(
        ranked, lambda names, which: comparison_table(by_label, names, class_colours(shown), f"IoU of {which}")
    )
    alone = (folded(one.label, _by_itself(one), f"run {one.run.name}") for one in shown)
    return compared + _absent(absent) + "".join(alone)


def _by_itself(one: Shown) -> str:
    found = {each.name: each for each in one.scenes.classes}
    ranked, absent = best_first({one.label: one.scenes.classes})
    total = sum(each.pixels for each in found.values())

    def build(names: Sequence[str], which: str) -> Table:
        caption = f"{which[0].upper()}{which[1:]} in {one.run.name}"
        return class_table([found[name] for name in names], one.scenes.colours, caption, total)

    classes = f"<div>{_ends(ranked, build)}{_absent(absent)}</div>"
    return f'<div class="beside">{classes}<div>{_confusion(one)}</div></div>'


def _ends(ranked: Sequence[str], build: Callable[[Sequence[str], str], Table]) -> str:
    """A table of all classes while they are few; else of the best and of the worst, and behind a line of all."""
    if len(ranked) <= _FEW_CLASSES:
        return table(build(ranked, "each class"))
    ends = (build(ranked[:_ENDS], f"the {_ENDS} best classes"), build(ranked[-_ENDS:], f"the {_ENDS} worst classes"))
    every = table(build(ranked, f"all {len(ranked)} classes"))
    return side_by_side([f"<div>{table(end)}</div>" for end in ends]) + folded(f"All {len(ranked)} classes", every)


def _absent(names: Sequence[str]) -> str:
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
    most = pairs[0]
    said = (
        f"Most often {most.target} is taken for {most.predicted}: {100 * most.of_class:.0f} % of its pixels, "
        f"and {100 * most.of_all:.0f} % of all mistakes."
    )
    if len(confusion.names) > _FEW_CLASSES:
        drawn = table(mistake_table(confusion, one.scenes.colours, f"Mistakes of {one.run.name}"))
    else:
        drawn = heat_map(confusion, one.scenes.colours, f"What each class is taken for in {one.run.name}, %")
    return drawn + note(said)
