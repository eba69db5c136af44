"""The report: one HTML file that holds everything it shows and fetches nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from switchnorm.errors import InputError
from switchnorm.report import scene_sections, sections
from switchnorm.report.grid import grids
from switchnorm.report.groups import group_runs
from switchnorm.report.runs import load_run
from switchnorm.report.tables import results
from switchnorm.report.words import comparison, headline
from switchnorm.studies.geometries import Absent


def write(runs: Sequence[Path], out: Path, absent: Sequence[Absent] = ()) -> Path:
    """Write the report on the given run folders; a reader sees the old page or the whole new one, never a part.

    Args:
        runs: the run folders, in the order in which the normalizers shall appear.
        out: the HTML file to write; its folder is made if it is not there.
        absent: trainings that a study meant to make and that left no run, for the table by geometry.

    Returns:
        The file that was written.

    Raises:
        InputError: no run was given, one cannot be read, or `out` is a folder.
    """
    out = Path(out)
    if not runs:
        raise InputError("a report needs at least one run folder; none was given")
    if out.is_dir():
        raise InputError(f"{out} is a folder; the report is one file: give {out / 'report.html'}")
    text = _page(runs, absent)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out


def _page(paths: Sequence[Path], absent: Sequence[Absent]) -> str:
    runs = [load_run(path) for path in dict.fromkeys(paths)]
    groups = group_runs(runs)
    rows = results(groups)
    details = scene_sections.read_details(groups)
    parts = (
        sections.geometry(grids(groups, absent)),
        sections.results(groups),
        sections.curves(groups),
        scene_sections.pictures(groups, details),
        scene_sections.classes(groups, details),
        sections.choices(groups),
        sections.provenance(groups),
    )
    return Template(_asset("page.html")).substitute(
        # A narrow screen must not part a number from its percent sign.
        title=escape(headline(rows)).replace(" %", "&nbsp;%").replace(" IoU", "&nbsp;IoU"),
        lede=escape(comparison(rows, runs)),
        sections="\n".join(parts),
        css=_asset("page.css"),
        js=_asset("page.js"),
        # The whole of plotly.js: its Python package ships no smaller bundle.
        plotly=get_plotlyjs(),
    )


def _asset(name: str) -> str:
    return (resources.files("switchnorm.report") / name).read_text(encoding="utf-8")
