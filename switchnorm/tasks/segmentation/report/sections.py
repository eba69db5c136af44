"""The sections that segmentation adds to the report."""

from __future__ import annotations

from collections.abc import Sequence

from switchnorm.report.common.groups import Group
from switchnorm.runs.run import start_epoch
from switchnorm.tasks.segmentation.files import read_scenes
from switchnorm.tasks.segmentation.report.class_section import class_section
from switchnorm.tasks.segmentation.report.picture_section import picture_section


def sections(groups: Sequence[Group]) -> list[str]:
    """Pictures, and class by class: of groups of segmentation runs; "" for what no run has files of.

    Raises:
        InputError: a file of a run is damaged or missing.
    """
    runs = [group.runs[0] for group in groups]
    details = {run.path: read_scenes(run.path, start_epoch(run.config)) for run in runs}
    return [picture_section(groups, details), class_section(groups, details)]
