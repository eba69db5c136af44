"""What is wrong with data, or unusual: a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from switchnorm.data.detection.object_facts import SurveyedObjects
from switchnorm.data.files.picture_facts import SurveyedPictures
from switchnorm.data.files.surveyed import MISSING, UNREADABLE, Surveyed
from switchnorm.data.segmentation.labels import IGNORED
from switchnorm.data.segmentation.pair_facts import ALL_VOID
from switchnorm.survey.duplicates import Duplicates, Place, find_duplicates
from switchnorm.survey.summary import Summary, Tally

#: Classes, numbers and samples that a sentence names.
_NAMED = 5
#: A share of pixels that do not count from which on that is said, and what is not a handful of classes any more.
_MUCH_VOID, _MANY_CLASSES = 0.5, 32
#: Verbs of remarks, for one sample.
_OF_ONE = {"are": "is", "have": "has", "hold": "holds", "do": "does"}


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether training would stop at what it says."""

    text: str
    wrong: bool = False


@dataclass(frozen=True)
class Seen:
    """A split, and what its samples come to; without the split where these came in batches."""

    summary: Summary
    split: Surveyed | None = None

    def title(self, index: int) -> str:
        """What a sample is called."""
        return f"number {index}" if self.split is None else self.split.title(index)


def findings(seen: Sequence[Seen], classes: Sequence[str], known: Sequence[str] = ()) -> list[Finding]:
    """All that is wrong, then what the dataset says of itself, then all else that is unusual, split by split.

    Args:
        seen: the splits.
        classes: names, in the order of the labels.
        known: what the dataset says of itself, `Dataset.unusual`: what was left out, and classes that a split lacks.
    """
    found = [Finding(text) for text in known]
    found += [each for one in seen for each in (*_remarks(one), *_masks(one, classes))]
    found += _duplicates(seen)
    found += [each for one in seen for each in (*_empty_classes(one, classes), *_pictures(one))]
    return sorted(found, key=lambda each: not each.wrong)


def _remarks(one: Seen) -> Iterator[Finding]:
    for kind, tally in one.summary.remarks.items():
        if kind == ALL_VOID and not one.summary.counted:  # which `_masks` says of all at once
            continue
        # Training goes on without some of them, and not without any.
        none_left = kind in (UNREADABLE, MISSING) and tally.count == one.summary.total
        yield Finding(f"{_of(one, tally.count, kind)}: {_examples(one, tally)}", tally.wrong or none_left)


def _examples(one: Seen, tally: Tally) -> str:
    titles, details = [one.title(index) for index, _ in tally.first], [detail for _, detail in tally.first]
    more = f" and {tally.count - len(titles):,} more" if tally.count > len(titles) else ""
    if len(set(details)) == 1 and details[0]:  # which is said once
        return f"{', '.join(titles)}{more} ({details[0]})"
    named = [f"{title} ({detail})" if detail else title for title, detail in zip(titles, details, strict=True)]
    return ", ".join(named) + more


def _masks(one: Seen, classes: Sequence[str]) -> Iterator[Finding]:
    summary = one.summary
    if summary.unit != "pixels":
        return
    if not summary.void:
        return
    if not summary.counted:
        only = summary.name == "train" and summary.complete
        yield Finding(f"{summary.name}: {all_void(summary)}", wrong=only)
        return
    share = summary.void / summary.counts.total()
    if share > _MUCH_VOID:
        yield Finding(f"{summary.name}: {100 * share:.1f} % of all pixels do not count")
    absent = _absent(summary, classes)
    if absent and _asks(summary, classes):
        yield Finding(
            f"{summary.name}: no pixel of {_listed(absent)} in {_these(one)}, while {summary.having[IGNORED]:,} have "
            "pixels that do not count; is the number of these a class?"
        )


def all_void(summary: Summary) -> str:
    """That nothing counts, and what may be done about it."""
    return (
        f"none of the {summary.looked:,} masks has a pixel of a class, all are numbers that do not count; "
        "say which numbers are classes, or take those that are out of what is ignored"
    )


def _empty_classes(one: Seen, classes: Sequence[str]) -> Iterator[Finding]:
    summary = one.summary
    absent = _absent(summary, classes)
    if isinstance(
        one.split, SurveyedPictures | SurveyedObjects
    ):  # whose labels the dataset knows without reading them, and says so
        return
    # That a few samples lack a rare class says nothing.
    if absent and summary.complete and summary.counted and not _asks(summary, classes):
        yield Finding(f"{summary.name}: nothing of {_listed(absent)}")


def _absent(summary: Summary, classes: Sequence[str]) -> list[str]:
    return [name for label, name in enumerate(classes) if not summary.counts[label]]


def _asks(summary: Summary, classes: Sequence[str]) -> bool:
    """Whether a class that is absent from masks may be among what does not count: any of a handful in training."""
    return summary.name == "train" and summary.void > 0 and len(classes) <= _MANY_CLASSES


def _pictures(one: Seen) -> Iterator[Finding]:
    summary = one.summary
    turned = summary.orientations.total() - summary.orientations[1]
    if turned:
        yield Finding(f"{_of(one, turned, 'are')} stored turned or mirrored, as EXIF says")
    if one.split is not None and len(summary.sizes):
        yield from (Finding(f"{summary.name}: {said}") for said in one.split.about_sizes(summary.sizes))


def _duplicates(seen: Sequence[Seen]) -> Iterator[Finding]:
    summaries = [one.summary for one in seen]
    repeated = find_duplicates(summaries)
    for (first, second), found in repeated.across.items():
        into = f"{summaries[second].name} has {_pictures_of(found.number)} of {summaries[first].name} byte for byte"
        yield Finding(f"{into}: {_pair(seen, found)}")
    if repeated.contradicting is not None:
        targets = summaries[0].targets
        yield Finding(f"{_again(repeated.contradicting)} with other {targets}: {_pair(seen, repeated.contradicting)}")
    for place, found in repeated.within.items():
        yield Finding(f"{summaries[place].name}: {_again(found)}: {_pair(seen, found)}")


def _pair(seen: Sequence[Seen], found: Duplicates) -> str:
    one, other = (_named(seen, place) for place in found.first)
    more = f", and {found.number - 1:,} more" if found.number > 1 else ""
    return (f"{one} is listed twice" if one == other else f"{one} is {other}") + more


def _named(seen: Sequence[Seen], place: Place) -> str:
    of, index = place
    return f"{seen[of].summary.name} {seen[of].title(index)}"


def _again(found: Duplicates) -> str:
    return f"{_pictures_of(found.number)} {agreeing(found.number, 'are')} there again"


def _pictures_of(count: int) -> str:
    return f"{count:,} {'picture' if count == 1 else 'pictures'}"


def _of(one: Seen, count: int, predicate: str) -> str:
    """ "train: 3 of 367 pictures have"."""
    return f"{one.summary.name}: {count:,} of {_these(one)} {agreeing(count, predicate)}"


def agreeing(count: int, predicate: str) -> str:
    """A predicate of many, "are missing", for so many."""
    verb, space, rest = predicate.partition(" ")
    return _OF_ONE.get(verb, verb) + space + rest if count == 1 else predicate


def _these(one: Seen) -> str:
    looked = "" if one.summary.complete else " looked at"
    return f"{one.summary.looked:,} pictures{looked}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more classes" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
