"""Where groups are too many to be shown at once: those of each geometry by themselves, to be folded away."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.groups import Group, group_runs
from switchnorm.report.geometry.grid import geometry_of, row_order, setting_of

# A figure of more lines can no longer be read.
_MOST_LINES = 6


def fold(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups by geometry, in the papers' order, where they are too many for one figure; else all under "".

    The groups are labelled anew, by what tells them apart inside their fold.
    """
    keys = {group.label: (setting_of(group), geometry_of(group)) for group in groups}
    settings = list(dict.fromkeys(setting for setting, _ in keys.values()))
    if (
        len(groups) <= _MOST_LINES
        or len(set(keys.values())) < 2
        or any(geometry is None for _, geometry in keys.values())
    ):
        return {"": list(groups)}
    ordered = sorted(set(keys.values()), key=lambda key: (settings.index(key[0]), key[1].order if key[1] else ()))
    folds = {}
    for setting, geometry in ordered:
        assert geometry is not None
        place = "" if len(settings) == 1 else f", {setting[1]} on {setting[0]}"
        members = sorted((group for group in groups if keys[group.label] == (setting, geometry)), key=row_order)
        folds[f"{geometry.title}{place}"] = group_runs(
            run for group in members for run in (*group.runs, *group.repeated)
        )
    return folds
