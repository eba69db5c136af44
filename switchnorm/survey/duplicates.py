"""Samples that are there more than once, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from switchnorm.survey.summary import Summary

#: A sample: the place of its split, and its index there.
Place = tuple[int, int]


class Duplicates(NamedTuple):
    """Samples of which the same content is elsewhere.

    Args:
        number: how many.
        first: one of them, and the one that it repeats.
    """

    number: int
    first: tuple[Place, Place]


class Repeated(NamedTuple):
    """All that is there more than once.

    Args:
        within: by the place of a split, its samples that repeat others of it.
        across: by the places of two splits, samples of the second one that are in the first one too.
        contradicting: samples that repeat others, in any split, under another label or with another mask.
    """

    within: dict[int, Duplicates]
    across: dict[tuple[int, int], Duplicates]
    contradicting: Duplicates | None


def find_duplicates(splits: Sequence[Summary]) -> Repeated:
    """What of the samples that were looked at is there more than once."""
    if not splits:
        return Repeated({}, {}, None)
    contents = [summary.contents for summary in splits]
    of = np.concatenate([np.full(len(each), place) for place, each in enumerate(contents)])
    index, digests, targets = np.concatenate(contents).T
    order = np.lexsort((index, of, digests))  # equal contents beside each other, in the order of splits
    of, index, digests, targets = of[order], index[order], digests[order], targets[order]
    begins = np.ones(len(digests), bool)
    begins[1:] = digests[1:] != digests[:-1]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(digests)), 0))  # the first sample of each content

    def found(repeats: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Duplicates | None:
        places = repeats.nonzero()[0]
        if not len(places):
            return None
        one = places[np.lexsort((index[places], of[places]))[0]]
        return Duplicates(len(places), ((int(of[one]), int(index[one])), (int(of[first[one]]), int(index[first[one]]))))

    again = np.zeros(len(digests), bool)
    again[1:] = ~begins[1:] & (of[1:] == of[:-1])
    within = {place: dup for place in range(len(splits)) if (dup := found(again & (of == place)))}
    across = {
        (one, other): dup
        for one in range(len(splits))
        for other in range(one + 1, len(splits))
        if (dup := found((of == other) & (of[first] == one)))
    }
    return Repeated(within, across, found(targets != targets[first]))
