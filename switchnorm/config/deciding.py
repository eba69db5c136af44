"""Which keys decide the result of a run, and which do not: one answer for resuming, studies and reports.

Of the others a run may have other values when it is continued, a study when it is, and runs that differ in nothing else
are seeds of one training. Where data lies decides nothing either, but which data lies there does: who leaves these keys
out compares what the data is known by (`switchnorm.data.fingerprint`).
"""

from __future__ import annotations

from typing import Any

from switchnorm.config.keys import OPEN, flatten
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task, tasks
from switchnorm.data import Dataset, dataset_classes

#: Keys on which no result depends, of every run; tasks and datasets name more. Whatever the batches of an evaluation,
#: its pictures are those, and sums over them differ in the last digit at most.
_ASIDE = (
    *("train.checkpoint_minutes", "train.snapshot_epochs", "train.eval_batch_size", "train.loggers"),
    "data.workers",
)

#: Keys that say by what, and how exactly, a result is computed: the training is the same, the last digits are not.
COMPUTATION = (
    *("train.device", "train.strategy", "train.precision", "train.channels_last", "train.compile"),
    *("train.deterministic", "train.cuda_graph"),
)


def places(dataset: str) -> tuple[str, ...]:
    """The keys that say where the data of a dataset lies; those of any dataset where it is not registered here."""
    known = dataset_classes().get(dataset, Dataset)
    return tuple(f"data.{option}" for option in known.places)


def kept_aside(task: str) -> frozenset[str]:
    """The keys on which no result of a task depends, but for those that say where data lies."""
    own = (key for key in find_task(task).computed if key.startswith(f"{task}."))
    return frozenset((*_ASIDE, *own))


def undeciding(config: Config) -> frozenset[str]:
    """The keys on which no result of a run depends."""
    return kept_aside(config.task) | frozenset(places(config.data["name"]))


def deciding(config: Config) -> dict[str, Any]:
    """The keys that decide the result of a run, with their values; what others claim is none."""
    aside = undeciding(config)
    sections = tuple(f"{name}." for name in ("claim", *tasks()) if name != config.task)
    # Options are values though they be mappings, of which a key more is another value.
    settings = flatten(config.content(), {*OPEN, *(f"data.{option}" for option in config.data)})
    return {key: value for key, value in settings if key not in aside and not key.startswith(sections)}


def undeciding_changes(written: Config, config: Config) -> dict[str, Any]:
    """The values that `config` gives to keys on which no result depends, where `written` has others."""
    theirs, ours = (dict(flatten(each.content())) for each in (written, config))
    return {key: ours[key] for key in sorted(undeciding(config)) if key in ours and ours[key] != theirs.get(key)}
