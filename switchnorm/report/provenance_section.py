"""The page's section on provenance: where every run came from, and its whole configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import yaml

from switchnorm.report.common.elements import folded, section
from switchnorm.report.common.groups import Group
from switchnorm.report.geometry.folds import fold
from switchnorm.runs.durations import duration
from switchnorm.runs.run import Run

#: Entries of run.json that tell readers nothing: how the normalizer is shown, and digests of the data.
_UNTOLD = ("normalizer", "class_colors", "data")


def provenance_section(groups: Sequence[Group]) -> str:
    """Where every run came from, and its whole configuration."""
    folds = (
        folded(title, "".join(_origin(group, run) for group in members for run in (*group.runs, *group.repeated)))
        for title, members in fold(groups).items()
    )
    return section("Provenance", *folds)


def _origin(group: Group, run: Run) -> str:
    took = run.provenance.get("seconds")
    facts = (f"seed {run.seed}", str(run.provenance.get("status", "unknown status")), duration(took))
    config = escape(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    told = {name: value for name, value in run.provenance.items() if name not in _UNTOLD}
    record = _facts({"folder": run.path, **told})
    whole = f"<details><summary>Configuration</summary><pre>{config}</pre></details>"
    return folded(group.label, record + whole, " · ".join(facts))


def _facts(facts: Mapping[str, Any]) -> str:
    rows = (f"<dt>{escape(str(name))}</dt><dd>{_fact(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(name))} {_fact(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return escape(", ".join(map(str, value)))
    return escape("–" if value is None else str(value))
