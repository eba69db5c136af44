"""The sections that detection adds to the report."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.groups import Group
from switchnorm.tasks.detection.files import read_details
from switchnorm.tasks.detection.report.class_section import class_section
from switchnorm.tasks.detection.report.curve_section import curve_section
from switchnorm.tasks.detection.report.picture_section import picture_section
from switchnorm.tasks.detection.report.size_section import size_section


def sections(groups: Sequence[Group]) -> list[str]:
    """Sizes, pictures, precision over recall, and class by class: of groups of detectors' runs; "" for what none has.

    Raises:
        InputError: a file of a run is damaged or missing.
    """
    details = {group.runs[0].path: read_details(group.runs[0].path) for group in groups}
    return [
        size_section(groups),
        picture_section(groups, details),
        curve_section(groups, details),
        class_section(groups, details),
    ]
