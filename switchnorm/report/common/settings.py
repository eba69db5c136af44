"""Settings in which groups of runs differ: which of them tell rivals apart, and what readers call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class _Absent:
    """The value of a setting that is not there, which null is not: it may mean something else than the default."""

    def __repr__(self) -> str:
        return "as built"


ABSENT = _Absent()


def distinguishing(
    rivals: Sequence[Mapping[str, Any]], first: Sequence[str] = (), last: Sequence[str] = ()
) -> list[str]:
    """As few keys as needed so that no two rivals agree in all of them; none where there is but one.

    Args:
        rivals: the settings of each.
        first: the keys to be tried before others.
        last: those to be tried after all others.
    """
    rank = {**{key: place - len(first) for place, key in enumerate(first)}, **dict.fromkeys(last, 1)}
    chosen: list[str] = []
    for key in sorted(differing(rivals), key=lambda key: (rank.get(key, 0), key)):
        if _variants(rivals, [*chosen, key]) > _variants(rivals, chosen):
            chosen.append(key)
    return chosen


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of which not all have one value."""
    keys = {key for each in settings for key in each}
    return [key for key in keys if _variants(settings, [key]) > 1]


def _variants(rivals: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> int:
    return len({repr([rival.get(key, ABSENT) for key in keys]) for rival in rivals})


def in_words(key: str, value: Any) -> str:
    """A setting for readers: "samples per GPU 2"; a thing's name speaks for itself."""
    name = key.rsplit(".", 1)[-1]
    return value_in_words(value) if name == "name" else f"{_title(name)} {value_in_words(value)}"


def key_in_words(key: str) -> str:
    """What readers call a setting: "samples per GPU"; a thing's name is called what the thing is, "optimizer"."""
    room, _, name = key.rpartition(".")
    return _title(room.rsplit(".", 1)[-1] if name == "name" else name)


def value_in_words(value: Any) -> str:
    """A value for readers."""
    return "none" if value is None else str(value)


def _title(name: str) -> str:
    return name.replace("_", " ").replace("gpu", "GPU")
