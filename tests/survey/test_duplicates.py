"""Samples that are there more than once, against a search that compares each with each."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from switchnorm.data.files.surveyed import Facts
from switchnorm.survey.duplicates import find_duplicates
from switchnorm.survey.summary import Summary

SAMPLE = st.tuples(st.integers(-1, 5), st.integers(0, 1))  # digest and target


@given(st.lists(st.lists(SAMPLE, max_size=8), min_size=1, max_size=3))
def test_all_are_found(splits):
    summaries = []
    for number, split in enumerate(splits):
        summaries.append(Summary(str(number), len(split)))
        for index, (digest, target) in enumerate(split):
            summaries[-1].add(index, Facts(digest=digest, target=target))
    samples = [(of, index, *sample) for of, split in enumerate(splits) for index, sample in enumerate(split)]
    within, across, contradicting = set(), set(), set()
    for (of, _, digest, _), (to, place, same, _) in itertools.combinations(samples, 2):
        if digest != same or digest < 0:
            continue
        if of == to:
            within.add((to, place))
    first = {}
    for of, index, digest, target in samples:
        if digest < 0:
            continue
        lead = first.setdefault(digest, (of, index, target))
        if lead[0] != of:
            across.add((lead[0], of, index))
        if lead[2] != target:
            contradicting.add((of, index))
    found = find_duplicates(summaries)
    assert {place: each.number for place, each in found.within.items()} == {
        place: sum(of == place for of, _ in within) for place in {of for of, _ in within}
    }
    assert {pair: each.number for pair, each in found.across.items()} == {
        pair: sum(each[:2] == pair for each in across) for pair in {each[:2] for each in across}
    }
    assert (found.contradicting.number if found.contradicting else 0) == len(contradicting)
    for each in [*found.within.values(), *found.across.values()]:
        (of, index), (to, place) = each.first
        assert splits[of][index][0] == splits[to][place][0]
        assert (of, index) != (to, place)
