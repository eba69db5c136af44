"""On which test data runs were judged, and what each such data is called: scores of others are never compared."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any

from switchnorm.data import dataset_class, dataset_classes
from switchnorm.report.common.settings import distinguishing, in_words
from switchnorm.runs.run import Run

# What tells data of one name apart where no option does.
_COUNT, _MARK = "test samples", "digest"


def data_sets(runs: Sequence[Run]) -> list[str]:
    """For each run the name of the data that it was tested on, the same for two runs if and only if the data is.

    Data is known by what run.json keeps of it, wherever it lies. A run whose record does not say it is known by the
    options that decide what is evaluated; it was tested on what the others with the same options were.

    Returns:
        "cifar10"; with what tells them apart where several have one name, "folder, root cats".
    """
    identities = _identities(runs)
    named: dict[Hashable, Run] = {}
    for identity, run in zip(identities, runs, strict=True):
        if identity not in named or named[identity].test_data is None:
            named[identity] = run
    told = {identity: _told(run, identity) for identity, run in named.items()}
    titles = {}
    for identity, run in named.items():
        rivals = [told[other] for other, rival in named.items() if _name(rival) == _name(run)]
        keys = distinguishing(rivals, [key for key in told[identity] if key not in (_COUNT, _MARK)], [_MARK])
        titles[identity] = ", ".join([_name(run), *(in_words(key, told[identity].get(key)) for key in keys)])
    return [titles[identity] for identity in identities]


def _identities(runs: Sequence[Run]) -> list[Hashable]:
    known = [None if run.test_data is None else (_name(run), *run.test_data) for run in runs]
    there: dict[Hashable, set[Hashable]] = {}
    for run, found in zip(runs, known, strict=True):
        if found is not None:
            there.setdefault(_place(run), set()).add(found)
    return [_identity(found, _place(run), there) for run, found in zip(runs, known, strict=True)]


def _identity(found: Hashable | None, place: Hashable, there: dict[Hashable, set[Hashable]]) -> Hashable:
    if found is not None:
        return found
    others = there.get(place, set())
    return next(iter(others)) if len(others) == 1 else place


def _name(run: Run) -> str:
    return str(run.settings.get("data.name"))


def _place(run: Run) -> tuple[str, str]:
    return _name(run), repr(sorted(_options(run).items()))


def _told(run: Run, identity: Hashable) -> dict[str, Any]:
    """What may tell the run's test data from other data of its name."""
    count = "unknown" if run.test_data is None else run.test_data[0]
    return {**_options(run), _COUNT: count, _MARK: hashlib.sha256(repr(identity).encode()).hexdigest()[:8]}


def _options(run: Run) -> dict[str, Any]:
    """The options that decide which samples are evaluated; of a dataset that is not known here all of them."""
    options = {key: value for key, value in run.settings.items() if key.startswith("data.") and key != "data.name"}
    name = _name(run)
    if name not in dataset_classes():
        return options
    places = (place for place in dataset_class(name).places if not place.startswith("train_"))
    deciding = {f"data.{option}" for option in ("split", "names", *places)}
    return {key: value for key, value in options.items() if key in deciding}
