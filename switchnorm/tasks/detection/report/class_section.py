"""The section on classes: how well the objects of each are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switchnorm.report.common.class_lists import absent, best_first, ends
from switchnorm.report.common.elements import folded, note, section
from switchnorm.report.common.groups import Group
from switchnorm.report.common.numbers import percent
from switchnorm.report.common.table import Cell, Table
from switchnorm.report.geometry.by_data import first_seed_note
from switchnorm.tasks.detection.files import ClassScore
from switchnorm.tasks.detection.report.shown import AllDetails, Shown, by_data_set, class_colours

#: Columns of classes.csv and their titles; those of masks are left out where there are none.
_RATES = {
    "ap": "AP %",
    "ap50": "AP50 %",
    "ap75": "AP75 %",
    "ar": "AR %",
    "mask_ap": "Mask AP %",
    "mask_ap50": "Mask AP50 %",
    "mask_ap75": "Mask AP75 %",
    "mask_ar": "Mask AR %",
}
_NOWHERE = "No test picture has objects of"


def class_section(groups: Sequence[Group], details: AllDetails) -> str:
    """How well the objects of each class are found; nothing where no run says so."""
    known = [group for group in groups if (found := details.get(group.runs[0].path)) and found.classes]
    if not known:
        return ""
    said = "AP is the mean over overlaps from 0.50 to 0.95; the best class is on top."
    return section("Class by class", note(said + first_seed_note(known)), *by_data_set(known, details, _classes))


def _classes(shown: Sequence[Shown]) -> str:
    """The classes of one run, or of several beside each other and then each by itself."""
    if len(shown) == 1:
        return _by_itself(shown[0])
    ranked, nowhere = best_first(_values(one, "ap") for one in shown)
    compared = ends(ranked, lambda names, which: _comparison(shown, names, f"AP of {which}"))
    alone = (folded(one.label, _by_itself(one), f"run {one.group.runs[0].name}") for one in shown)
    return compared + absent(nowhere, _NOWHERE) + "".join(alone)


def _by_itself(one: Shown) -> str:
    found = {each.name: each for each in one.details.classes}
    ranked, nowhere = best_first([_values(one, "ap")])

    def build(names: Sequence[str], which: str) -> Table:
        caption = f"{which[0].upper()}{which[1:]} in {one.group.runs[0].name}"
        return _table([found[name] for name in names], one.details.colours, caption)

    return ends(ranked, build) + absent(nowhere, _NOWHERE)


def _table(classes: Sequence[ClassScore], colours: Mapping[str, str], caption: str) -> Table:
    """A row per class in the order given: AP as a bar, the other rates, and how many objects and detections."""
    rates = [rate for rate in _RATES if any(each.rates[rate] is not None for each in classes)]
    rows = tuple(
        (
            Cell(each.name, colour=colours.get(each.name)),
            *(
                Cell(percent(each.rates[rate]), share=each.rates[rate] if rate in ("ap", "mask_ap") else None)
                for rate in rates
            ),
            Cell(str(each.objects)),
            Cell(str(each.detections)),
        )
        for each in classes
    )
    return Table(caption, ("Class", *(_RATES[rate] for rate in rates), "Objects", "Detections"), rows)


def _comparison(shown: Sequence[Shown], names: Sequence[str], caption: str) -> Table:
    """A row per class: its objects, and the AP of each run as a bar, the best strong."""
    colours = class_colours(shown)
    objects = {each.name: each.objects for each in shown[0].details.classes}
    values = [_values(one, "ap") for one in shown]
    rows = []
    for name in names:
        best = percent(max(found.get(name) or 0.0 for found in values))
        cells = (
            Cell(text := percent(found.get(name)), strong=text == best != percent(0.0), share=found.get(name))
            for found in values
        )
        rows.append((Cell(name, colour=colours.get(name)), Cell(str(objects.get(name, 0))), *cells))
    return Table(caption, ("Class", "Objects", *(f"{one.label} AP %" for one in shown)), tuple(rows))


def _values(one: Shown, rate: str) -> dict[str, float | None]:
    return {each.name: each.rates[rate] for each in one.details.classes}
