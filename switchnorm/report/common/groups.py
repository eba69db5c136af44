"""Groups of runs that differ only in their seed, each under the shortest label that tells it from the others."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from switchnorm.config.deciding import kept_aside, places
from switchnorm.report.common.data_sets import data_sets
from switchnorm.report.common.settings import ABSENT, differing, distinguishing, in_words
from switchnorm.report.common.trials import Trial, each_seed_once, trial
from switchnorm.runs.appearance import Appearance
from switchnorm.runs.run import Run
from switchnorm.runs.score import Score

# What may differ between the runs of one group besides what decides nothing: the seed, and where each writes.
_PER_RUN = ("seed", "name", "out", "output", "folder")
# The settings that a label names first, where they tell groups apart.
_PREFERRED = ("data.name", "model.name", "train.samples_per_gpu", "train.batch_size", "train.epochs")
# A baseline is fair where it shares these, and the test data, with the group that is compared with it.
_HELD_FIXED = ("task", "model.name", "train.samples_per_gpu")


@dataclass(frozen=True)
class Group:
    """Runs of one configuration on one test data, of each seed one: those that count first, by seed."""

    label: str
    runs: tuple[Run, ...]
    data: str = ""
    """What the test data is called; groups with another name were tested on other data."""
    repeated: tuple[Run, ...] = ()
    """Runs that count for nothing, since their seed is among `runs` already."""

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
    def trials(self) -> tuple[Trial, ...]:
        """What each of the runs counts for."""
        return tuple(map(trial, self.runs))

    @property
    def counted(self) -> tuple[Run, ...]:
        """The runs that count: numbers of tables are means over these."""
        return tuple(run for run in self.runs if trial(run).value is not None)

    @property
    def settings(self) -> dict[str, Any]:
        """What all runs of the group share, as dotted keys."""
        return _shared(self.runs[0])


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Gather the runs that differ only in seed and folder; groups come in the order of their first run.

    Data that lies elsewhere is the same data where the runs knew it by the same names.
    """
    runs = list(runs)
    members: dict[tuple[str, str], list[Run]] = {}
    known: dict[str, dict[str, Any]] = {}
    for run, data in zip(runs, data_sets(runs), strict=True):
        shared, where = _shared(run), _places(run)
        if record := run.provenance.get("data"):
            there = {key: value for key, value in shared.items() if key in where}
            shared = {key: value for key, value in shared.items() if key not in where}
            shared |= known.setdefault(repr((sorted(shared.items()), record)), there)
        members.setdefault((data, repr(sorted(shared.items()))), []).append(run)
    groups = []
    for (data, _), alike in members.items():
        kept, repeated = each_seed_once(alike)
        groups.append(Group("", tuple(kept), data, tuple(repeated)))
    return [replace(group, label=label) for group, label in zip(groups, labels(groups), strict=True)]


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
    """The BN group to compare with: same test data, network and samples per GPU, and the fewest other differences."""
    mine = group.settings
    fair = [
        other
        for other in groups
        if other.appearance.reference
        and other.data == group.data
        and all(other.settings.get(key) == mine.get(key) for key in _HELD_FIXED)
    ]
    return min(fair, key=lambda other: len(differing([mine, other.settings])), default=None)


def _shared(run: Run) -> dict[str, Any]:
    """The settings that a run has in common with others of its group; what others claim is none."""
    own = {*_PER_RUN, *kept_aside(run.task)}
    return {key: value for key, value in run.settings.items() if key not in own and not key.startswith("claim.")}


def labels(groups: Sequence[Group], ignored: Container[str] = ()) -> list[str]:
    """For each group the shortest label that tells its settings, but for the ignored keys, from those of the others."""
    settings = [
        {key: value for key, value in {**group.settings, "data.name": group.data}.items() if key not in ignored}
        for group in groups
    ]
    # Rivals have one name; whether it is the normalizer's or their own tells little, and where their data lies least.
    least = ["label", *dict.fromkeys(key for group in groups for key in _places(group.runs[0]))]
    found = []
    for group, mine in zip(groups, settings, strict=True):
        rivals = [other for rival, other in zip(groups, settings, strict=True) if rival.name == group.name]
        told = (in_words(key, mine.get(key, ABSENT)) for key in distinguishing(rivals, _PREFERRED, least))
        found.append(", ".join([group.name, *told]))
    return found


def _places(run: Run) -> tuple[str, ...]:
    """The keys that say where a run's data lies."""
    return places(str(run.settings.get("data.name")))


def _name(run: Run) -> str:
    return run.label or display_norm(run.norm)
