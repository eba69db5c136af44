"""In which settings the rows of a table differ that the table itself does not tell, in words."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from switchnorm.config.deciding import COMPUTATION, kept_aside
from switchnorm.report.common.groups import Group
from switchnorm.report.common.settings import ABSENT, differing, in_words, key_in_words, value_in_words

# What a comparison is about.
_EXPECTED = ("model.norm", "model.conv", "label", "data.name")
# What is named first, since it decides most.
_FIRST = ("train.epochs", "train.batch_size", "training data", "optimizer.lr")
_MOST_SETTINGS, _MOST_ROWS, _LONGEST = 8, 4, 60
# So many rows with one value are called the others.
_MANY = 3


def compared_settings(group: Group) -> dict[str, Any]:
    """The settings that may decide a comparison; not where and how a run was computed."""
    computed = {"seed", "plugins", *COMPUTATION, *kept_aside(group.score.task)}
    settings = {
        key: value
        for key, value in group.settings.items()
        if key not in computed and key not in _EXPECTED and not key.startswith("model.norms.")
    }
    trained = group.runs[0].training_data
    return settings if trained is None else {**settings, "training data": trained}


def differences(rows: Sequence[tuple[str, Mapping[str, Any]]], told: Container[str] = ()) -> Iterator[str]:
    """A sentence on the settings in which rows that are compared differ; none where they agree.

    Args:
        rows: what each is called, and its `compared_settings`.
        told: keys that the table tells by itself.
    """
    known = [settings for _, settings in rows if "training data" in settings]
    one_data = "training data" not in differing(known)  # a run from before says nothing of it, which is no difference
    parts = []
    rank = {key: place - len(_FIRST) for place, key in enumerate(_FIRST)}
    for key in sorted(differing([settings for _, settings in rows]), key=lambda key: (rank.get(key, 0), key)):
        values = [(name, settings.get(key, ABSENT)) for name, settings in rows]
        in_names = all(f", {in_words(key, value)}" in name for name, value in values)
        if key not in told and not in_names and not (key == "training data" and one_data):
            parts.append(_part(key, values))
    if len(parts) > _MOST_SETTINGS:
        parts = [*parts[:_MOST_SETTINGS], f"and {len(parts) - _MOST_SETTINGS} more"]
    if parts:
        yield f"Other settings differ: {'; '.join(parts)}."


def _part(key: str, values: Sequence[tuple[str, Any]]) -> str:
    """One setting: "lr 0.1 (BN), 0.5 (SN)"."""
    names: dict[str, list[str]] = {}
    for name, value in values:
        names.setdefault(value_in_words(value), []).append(name)
    counts = [len(rows) for rows in names.values()]
    usual = max(counts) if counts.count(max(counts)) == 1 and max(counts) >= _MANY else None
    said = [f"{value[:_LONGEST]} ({_rows(rows, len(rows) == usual)})" for value, rows in names.items()]
    return f"{key_in_words(key)} {', '.join(said)}"


def _rows(names: Sequence[str], usual: bool) -> str:
    if usual:
        return "the others"
    return f"{len(names)} rows" if len(names) > _MOST_ROWS else "; ".join(names)
