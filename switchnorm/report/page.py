"""The report: one HTML file that holds everything it shows and fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from plotly.offline import get_plotlyjs

from switchnorm.config.task_spec import find_task, loaded
from switchnorm.errors import InputError
from switchnorm.files import check_page, write_file, writing
from switchnorm.report.common.document import asset, document
from switchnorm.report.common.groups import Group, by_score, group_runs
from switchnorm.report.geometry.grid import grids
from switchnorm.report.geometry.grid_section import geometry_section
from switchnorm.report.importance.importance_section import importance_section
from switchnorm.report.provenance_section import provenance_section
from switchnorm.report.results.headline import comparison, headline
from switchnorm.report.results.result import results
from switchnorm.report.results.results_sections import curves_section, results_section
from switchnorm.report.user_sections import made_by, user_sections
from switchnorm.runs.geometries import Absent
from switchnorm.runs.run import load_runs


def write(runs: Sequence[Path], out: Path, absent: Sequence[Absent] = (), notes: Sequence[str] = ()) -> Path:
    """Write the report on the given run folders; a reader sees the old page or the whole new one, never a part.

    Args:
        runs: the run folders, in the order in which the normalizers shall appear.
        out: the HTML file to write; its folder is made if it is not there.
        absent: trainings that a study meant to make and that left no run, for the table by geometry.
        notes: sentences on what the table of results lacks.

    Returns:
        The file that was written.

    Raises:
        InputError: no run was given, one cannot be read, or `out` is a folder or no name of a page.
    """
    out = Path(out)
    if not runs:
        raise InputError("a report needs at least one run folder; none was given")
    check_page(out, "report.html")
    text = _page(runs, absent, notes)
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, text)
    return out


def _page(paths: Sequence[Path], absent: Sequence[Absent], notes: Sequence[str]) -> str:
    runs = load_runs(paths)
    groups = group_runs(runs)
    rows = results(groups)
    sections = (
        geometry_section(grids(groups, absent)),
        results_section(groups, notes),
        curves_section(groups),
        *_task_sections(groups),
        importance_section(groups),
        *user_sections(groups),
        provenance_section(groups),
    )
    # The whole of plotly.js: its Python package ships no smaller bundle.
    scripts = (get_plotlyjs(), asset("page.js"))
    return document("switchnorm report", headline(rows), comparison(rows, runs), sections, scripts)


def _task_sections(groups: Sequence[Group]) -> Iterator[str]:
    """The sections that tasks bring along (`TaskSpec.sections`), each on the groups of its task."""
    for score, members in by_score(groups).items():
        make = loaded(find_task(score.task).sections)
        if make is not None:
            yield from made_by(f"sections of task {score.task!r}", make, members)
