"""The section on classes: how well each is found, and for which it is taken."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.class_lists import FEW_CLASSES, absent, best_first, ends
from switchnorm.report.common.elements import folded, note, section, table
from switchnorm.report.common.groups import Group
from switchnorm.report.common.table import Table
from switchnorm.report.geometry.by_data import first_seed_note
from switchnorm.tasks.segmentation.report.class_tables import (
    class_table,
    comparison_table,
    mistake_table,
    mistakes,
)
from switchnorm.tasks.segmentation.report.heat_map import heat_map
from switchnorm.tasks.segmentation.report.shown import Details, Shown, by_data_set, class_colours

#: What is said of classes without pixels.
_NOWHERE = "In neither truth nor prediction"


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
    ranked, nowhere = best_first({each.name: each.iou for each in one.scenes.classes} for one in shown)
    compared = ends(
        ranked, lambda names, which: comparison_table(by_label, names, class_colours(shown), f"IoU of {which}")
    )
    alone = (folded(one.label, _by_itself(one), f"run {one.run.name}") for one in shown)
    return compared + absent(nowhere, _NOWHERE) + "".join(alone)


def _by_itself(one: Shown) -> str:
    found = {each.name: each for each in one.scenes.classes}
    ranked, nowhere = best_first([{each.name: each.iou for each in one.scenes.classes}])
    total = sum(each.pixels for each in found.values())

    def build(names: Sequence[str], which: str) -> Table:
        caption = f"{which[0].upper()}{which[1:]} in {one.run.name}"
        return class_table([found[name] for name in names], one.scenes.colours, caption, total)

    classes = f"<div>{ends(ranked, build)}{absent(nowhere, _NOWHERE)}</div>"
    return f'<div class="beside">{classes}<div>{_confusion(one)}</div></div>'


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
    if len(confusion.names) > FEW_CLASSES:
        drawn = table(mistake_table(confusion, one.scenes.colours, f"Mistakes of {one.run.name}"))
    else:
        drawn = heat_map(confusion, one.scenes.colours, f"What each class is taken for in {one.run.name}, %")
    return drawn + note(said)
