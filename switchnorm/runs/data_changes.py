"""What has changed about the data of a run since it began."""

from __future__ import annotations

from typing import Any

from switchnorm.classes import listed
from switchnorm.data import Dataset
from switchnorm.data.fingerprint import MARK_LETTERS
from switchnorm.errors import InputError

#: The parts of a fingerprint, and what their samples are called.
_SPLITS = {"train": "training", "test": "test"}
_TYPES = {"count": int, "digest": str, "classes": str, "marks": str, "objects": str}


def data_changes(before: Any, dataset: Dataset, title: str) -> list[str]:
    """What differs from the data that a run began with, a phrase for each part: "3 training pictures more (48 -> 51)".

    Args:
        before: `data` of the run's run.json, which anybody may have written.
        dataset: what is here, with the classes of the run.
        title: what an error calls that file.

    Raises:
        InputError: `before` is no fingerprint.
    """
    check_fingerprint(before, title)
    now = dataset.fingerprint()
    return [
        phrase
        for split in _SPLITS
        if (phrase := _changes(split, before.get(split), now.get(split), dataset)) is not None
    ]


def check_fingerprint(found: Any, title: str) -> None:
    """Raise `InputError` for what is no fingerprint; `title` is what it calls the file."""
    if not isinstance(found, dict) or not all(_is_part(found[split]) for split in _SPLITS if split in found):
        raise InputError(f"{title} is damaged: expected counts and digests of the data as data")


def _is_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and "count" in part
        and all(isinstance(part[key], kind) for key, kind in _TYPES.items() if key in part)
    )


def _changes(split: str, old: dict[str, Any] | None, new: dict[str, Any] | None, dataset: Dataset) -> str | None:
    """What differs in one part; None for nothing."""
    title = _SPLITS[split]
    if old is None or new is None:
        gone, here = f"no {title} pictures any more", f"{title} pictures, of which there were none"
        return None if old is new else gone if new is None else here
    if all(old.get(key) == new.get(key) for key in ("count", "digest")):
        redrawn = "objects" in old and old["objects"] != new.get("objects")
        return f"other objects on the {title} pictures" if redrawn else None
    more = new["count"] - old["count"]
    one = "picture" if abs(more) == 1 else "pictures"
    where = _classes(old, new, dataset)
    if more:
        phrase = (
            f"{abs(more)} {title} {one} {'more' if more > 0 else 'fewer'} ({old['count']} -> {new['count']}){where}"
        )
    elif not where and sorted(_marks(old)) == sorted(_marks(new)) != []:
        return f"{title} pictures in another order"
    else:
        phrase = f"other {title} pictures, as many as before ({new['count']}){where}"
    first = _first_new(old, new)
    return phrase if first is None else f"{phrase}, first: {_name(split, first, dataset)}"


def _classes(old: dict[str, Any], new: dict[str, Any], dataset: Dataset) -> str:
    """In which classes, as in " in cat, dog"; "" where nothing tells."""
    parts = [str(each.get("classes", "")).split() for each in (old, new)]
    if not len(parts[0]) == len(parts[1]) == dataset.num_classes:
        return ""
    changed = [name for name, *pair in zip(dataset.classes, *parts, strict=True) if pair[0] != pair[1]]
    return f" in {listed(changed)}" if changed else ""


def _marks(part: dict[str, Any]) -> list[str]:
    marks = str(part.get("marks", ""))
    return [marks[start : start + MARK_LETTERS] for start in range(0, len(marks), MARK_LETTERS)]


def _first_new(old: dict[str, Any], new: dict[str, Any]) -> int | None:
    """The place of the first sample that was not there; None where nothing tells."""
    known = set(_marks(old))
    return next((place for place, mark in enumerate(_marks(new)) if mark not in known), None) if known else None


def _name(split: str, place: int, dataset: Dataset) -> str:
    return dataset.train_name(place) if split == "train" else dataset.test_name(place)
