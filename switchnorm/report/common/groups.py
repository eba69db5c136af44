"""Groups of runs that differ only in their seed, each under the shortest label that tells it from the others."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from switchnorm.config.deciding import kept_aside, places
from switchnorm.runs.appearance import Appearance
from switchnorm.runs.run import Run
from switchnorm.runs.score import Score

# What may differ between the runs of one group besides what decides nothing: the seed, and where each writes.
_PER_RUN = ("seed", "name", "out", "output", "folder")


class _Absent:
    """The value of a setting that is not there, which null is not: it may mean something else than the default."""

    def __repr__(self) -> str:
        return "as built"


_ABSENT = _Absent()
# The settings that a label names first, where they tell groups apart.
_PREFERRED = ("data.name", "model.name", "train.samples_per_gpu", "train.batch_size", "train.epochs")
# A baseline is fair where it shares these with the group that is compared with it.
_HELD_FIXED = ("task", "data.name", "model.name", "train.samples_per_gpu")


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, by seed."""

    label: str
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """What the runs are called by themselves: as their configuration says, or by their normalizer."""
        return _name(self.runs[0])

    @property
    def norm(self) -> str:
        """The normalizer, as the configuration spells it."""
        return self.runs[0].norm

    @property
    def appearance(self) -> Appearance:
        """How the normalizer is shown."""
        return self.runs[0].appearance

    @property
    def score(self) -> Score:
        """The number by which the runs are judged."""
        return self.runs[0].score

    @property
    def settings(self) -> dict[str, Any]:
        """What all runs of the group share, as dotted keys."""
        return _shared(self.runs[0])


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Gather the runs that differ only in seed and folder; groups come in the order of their first run.

    Data that lies elsewhere is the same data where the runs knew it by the same names.
    """
    members: dict[str, list[Run]] = {}
    known: dict[str, dict[str, Any]] = {}
    for run in runs:
        shared, where = _shared(run), places(str(run.settings.get("data.name")))
        if data := run.provenance.get("data"):
            there = {key: value for key, value in shared.items() if key in where}
            shared = {key: value for key, value in shared.items() if key not in where}
            shared |= known.setdefault(repr((sorted(shared.items()), data)), there)
        members.setdefault(repr(sorted(shared.items())), []).append(run)
    return _labelled([sorted(group, key=lambda run: (run.seed is None, str(run.seed))) for group in members.values()])


def by_score(groups: Iterable[Group]) -> dict[Score, list[Group]]:
    """The groups that may be compared with each other, by the score that they share."""
    found: dict[Score, list[Group]] = {}
    for group in groups:
        found.setdefault(group.score, []).append(group)
    return found


def display_norm(norm: str) -> str:
    """A normalizer's name for readers: "gn+ws" is shown as "GN + WS", "sn (body bn)" as "SN (body BN)"."""
    first, parts, others = norm.partition(" (")
    shown = " + ".join(part.strip().upper() for part in first.split("+"))
    if not parts:
        return shown
    named = (part.partition(" ") for part in others.removesuffix(")").split(", "))
    return f"{shown} ({', '.join(f'{part} {display_norm(each)}' for part, _, each in named)})"


def baseline(group: Group, groups: Iterable[Group]) -> Group | None:
    """The BN group to compare with: same data, network and samples per GPU, and the fewest other differences."""
    mine = group.settings
    fair = [
        other
        for other in groups
        if other.appearance.reference and all(other.settings.get(key) == mine.get(key) for key in _HELD_FIXED)
    ]
    return min(fair, key=lambda other: len(_differing([mine, other.settings])), default=None)


def _shared(run: Run) -> dict[str, Any]:
    """The settings that a run has in common with others of its group; what others claim is none."""
    own = {*_PER_RUN, *kept_aside(run.task)}
    return {key: value for key, value in run.settings.items() if key not in own and not key.startswith("claim.")}


def labels(runs: Sequence[Run], ignored: Container[str] = ()) -> list[str]:
    """For each run the shortest label that tells its settings, but for the ignored keys, from those of the others."""
    settings = [{key: value for key, value in _shared(run).items() if key not in ignored} for run in runs]
    found = []
    for run, mine in zip(runs, settings, strict=True):
        rivals = [other for rival, other in zip(runs, settings, strict=True) if _name(rival) == _name(run)]
        told = (_setting(key, mine.get(key, _ABSENT)) for key in _distinguishing(rivals))
        found.append(", ".join([_name(run), *told]))
    return found


def _name(run: Run) -> str:
    return run.label or display_norm(run.norm)


def _labelled(members: Sequence[Sequence[Run]]) -> list[Group]:
    found = labels([runs[0] for runs in members])
    return [Group(label, tuple(runs)) for label, runs in zip(found, members, strict=True)]


def _distinguishing(rivals: Sequence[dict[str, Any]]) -> list[str]:
    """As few keys as needed so that no two rivals agree in all of them; none where there is but one."""
    # Rivals have one name; whether it is the normalizer's or their own tells the least.
    rank = {**{key: place for place, key in enumerate(_PREFERRED)}, "label": len(_PREFERRED) + 1}
    # Where their data lies tells the least of all: it may be the same data.
    for name in {str(each.get("data.name")) for each in rivals}:
        rank |= dict.fromkeys(places(name), len(_PREFERRED) + 2)
    chosen: list[str] = []
    for key in sorted(_differing(rivals), key=lambda key: (rank.get(key, len(_PREFERRED)), key)):
        if _variants(rivals, [*chosen, key]) > _variants(rivals, chosen):
            chosen.append(key)
    return chosen


def _variants(rivals: Iterable[dict[str, Any]], keys: Sequence[str]) -> int:
    return len({repr([rival.get(key, _ABSENT) for key in keys]) for rival in rivals})


def _differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    keys = {key for each in settings for key in each}
    return [key for key in keys if _variants(settings, [key]) > 1]


def _setting(key: str, value: Any) -> str:
    """A setting for readers: "samples per GPU 2"; a thing's name speaks for itself."""
    name = key.rsplit(".", 1)[-1]
    if name == "name":
        return str(value)
    return f"{name.replace('_', ' ').replace('gpu', 'GPU')} {'none' if value is None else value}"
