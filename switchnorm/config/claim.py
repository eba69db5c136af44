"""Claims: results that others reported, to be shown beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from switchnorm.config.deciding import COMPUTATION, kept_aside
from switchnorm.config.keys import flatten
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task, tasks
from switchnorm.data import dataset_class

#: Keys beside those that decide nothing, and those of how a run is computed, that leave a claim what it is about.
_UNCLAIMED = (
    *("data.root", "data.train_folder", "data.val_folder", "data.val_list"),
    *("seed", "plugins", "label"),
)


def claim_keys() -> list[str]:
    """The keys of a claim, those of all tasks."""
    return [claim.key for task in tasks().values() for claim in task.claims]


def make_claim(
    source: str = "", status: str = "", warm_start: bool = False, **reported: float | None
) -> dict[str, Any]:
    """A configuration's `claim`: what is reported in %, by the tasks' keys, and null for the rest of them."""
    return {**dict.fromkeys(claim_keys()), **reported, "source": source, "status": status, "warm_start": warm_start}


def about(claim: Mapping[str, Any], config: Config, pictures: int | None) -> dict[str, Any]:
    """The claim if it is about such a training and test set, else an empty one.

    Args:
        claim: what is reported.
        config: what was trained.
        pictures: how many test pictures were counted; None if nobody knows.
    """
    benchmark = dataset_class(config.data["name"]).benchmark_size
    whole = benchmark is None or pictures is None or pictures == benchmark
    begun = config.train.warm_start is not None or not claim.get("warm_start")
    return dict(claim) if whole and begun else make_claim()


def is_changed(written: Config, config: Config) -> bool:
    """Whether `config` trains something else than `written`; the seed and how it is computed do not count."""
    one, other = (
        {key: value for key, value in flatten(each.content()) if not key.startswith("claim.")}
        for each in (written, config)
    )
    task = written.task
    computed = {*_UNCLAIMED, *COMPUTATION, *kept_aside(task), *find_task(task).computed}
    absent = object()  # null is a value: of the momentum it means another one than none at all
    return any(one.get(key, absent) != other.get(key, absent) for key in (one.keys() | other.keys()) - computed)


def beside(claim: Mapping[str, Any], task: str, measured: Mapping[str, float]) -> str | None:
    """A measured result and the claim about it, in one line.

    Args:
        claim: what is reported, as the configuration has it.
        task: what was trained.
        measured: what was measured, in [0, 1], under the names of the columns of metrics.csv.

    Returns:
        "top-1 error 6.42 % (published 6.11 %)", with whatever else is claimed and was measured, and the source; None
        where nothing is claimed.
    """
    pairs = []
    for each in find_task(task).claims:
        reported = claim.get(each.key)
        if reported is not None and each.column in measured:
            value = 1 - measured[each.column] if each.error else measured[each.column]
            pairs.append(f"{each.title} {100 * value:.2f} % (published {reported:.2f} %)")
    if not pairs:
        return None
    return "; ".join([", ".join(pairs), *filter(None, (claim.get("source"), claim.get("status")))])
