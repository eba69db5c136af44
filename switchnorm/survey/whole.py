"""Looking at all of a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from switchnorm.data import Dataset
from switchnorm.data.files.surveyed import Surveyed
from switchnorm.errors import InputError
from switchnorm.survey.batches import look_at_batches
from switchnorm.survey.findings import Finding, Seen, findings
from switchnorm.survey.quick import evenly
from switchnorm.survey.readers import look_in_processes
from switchnorm.survey.summary import Summary

#: Called with the samples that were looked at and those there are to look at.
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Survey:
    """What was found in a dataset.

    Args:
        classes: their names, in the order of the labels.
        seen: its splits.
        findings: what is wrong, then what is unusual.
        normalized: whether values are those that the network gets, not the file's.
    """

    classes: tuple[str, ...]
    seen: tuple[Seen, ...]
    findings: tuple[Finding, ...]
    normalized: bool = False

    @property
    def wrong(self) -> int:
        """At how many findings training would stop."""
        return sum(each.wrong for each in self.findings)


def look_at(dataset: Dataset, *, seed: int = 0, limit: int | None = None, watch: Watch = lambda *_: None) -> Survey:
    """Look at every sample of a dataset once.

    Args:
        dataset: prepared; what one that is `looked_at` has refused is among what is wrong.
        seed: of training, for what comes in batches alone.
        limit: samples of each split, evenly spread; None for all.
        watch: called as it goes on.

    Raises:
        InputError: processes that the system ended, or batches that are none.
    """
    splits = dataset.surveyed()
    seen = _look_at_samples(splits, limit, watch) if splits else _look_at_batches(dataset, seed, limit, watch)
    refused = [Finding(text, wrong=True) for text in dataset.refused]
    found = [*refused, *findings(seen, dataset.classes, _known(dataset))]
    if not any(each.wrong for each in found):
        found = [*_unusable(dataset), *found]
    return Survey(dataset.classes, tuple(seen), tuple(found), normalized=not splits)


def _unusable(dataset: Dataset) -> Iterator[Finding]:
    """Why training would not begin although all samples are whole: a split is missing, or there is one class."""
    for needed in (lambda: dataset.train_size, lambda: dataset.test_batches(batch_size=1), dataset.check_training):
        try:
            needed()
        except InputError as error:
            yield Finding(str(error), wrong=True)


def _known(dataset: Dataset) -> tuple[str, ...]:
    """What the dataset says of itself; nothing where it stops at a file, which is among what was found."""
    try:
        return dataset.unusual()
    except InputError:
        return ()


def _look_at_samples(splits: Sequence[Surveyed], limit: int | None, watch: Watch) -> list[Seen]:
    chosen = [range(len(split)) if limit is None else evenly(len(split), limit) for split in splits]
    total, done, seen = sum(map(len, chosen)), 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for split, indices in zip(splits, chosen, strict=True):
            summary = Summary(split.name, len(split), split.unit, split.targets)
            for index, facts in look_in_processes(split, indices):
                summary.add(index, facts)
                done += 1
                watch(done, total)
            seen.append(Seen(summary, split))
    return seen


def _look_at_batches(dataset: Dataset, seed: int, limit: int | None, watch: Watch) -> list[Seen]:
    done, seen = 0, []
    for summary, samples in look_at_batches(dataset, seed, limit):
        total = done + (summary.total if limit is None else min(limit, summary.total))
        for index, facts in enumerate(samples):
            summary.add(index, facts)
            done += 1
            watch(done, total)
        seen.append(Seen(summary))
    return seen
