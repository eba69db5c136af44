"""The values of a preparation in a file that anybody may have written; raises `InputError` for what cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from switchnorm.data.preparation.rules import RULES, Rule
from switchnorm.errors import InputError, unknown

#: The most channels, sides and pixels that a file may ask for.
MOST_CHANNELS, _MOST_SIDES, _LONGEST = 4096, 64, 1 << 20


def rule_of(values: Any, title: str) -> Rule:
    """The rule of sizes that entries describe."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in RULES:
        raise unknown("rule of sizes", str(kind), RULES)
    names = [each.name for each in fields(RULES[kind])]
    entries = dict(entries_of({name: value for name, value in values.items() if name != "kind"}, title, names, names))
    for name, value in entries.items():
        if name == "sides":
            entries[name] = counts_of(value, "sides", least=1, most=_MOST_SIDES)
        elif name == "resize":
            if value not in ("antialiased", "plain"):
                raise unknown("resize", str(value), ("antialiased", "plain"))
        elif value is not None or name != "longest":
            entries[name] = count_of(value, name)
    return RULES[kind](**entries)


def entries_of(values: Any, title: str, known: Sequence[str], needed: Sequence[str]) -> Mapping[str, Any]:
    """Entries by name, all of them known, and all that are needed there."""
    if not isinstance(values, Mapping):
        raise InputError(f"{title} is {type(values).__name__}; expected entries by name")
    for name in values:
        if name not in known:
            raise unknown(f"entry of {title}", str(name), known)
    for name in needed:
        if name not in values:
            raise InputError(f"{title} lacks {name!r}")
    return values


def number_of(value: Any, name: str) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r:.80}; expected a number")
    return float(value)


def numbers_of(value: Any, name: str) -> tuple[float, ...]:
    """A list of numbers."""
    if not isinstance(value, list) or len(value) > MOST_CHANNELS:
        raise InputError(f"{name} is {value!r:.80}; expected a list of numbers")
    return tuple(number_of(each, name) for each in value)


def count_of(value: Any, name: str, least: int = 1) -> int:
    """A whole number."""
    if type(value) is not int or not least <= value <= _LONGEST:
        raise InputError(f"{name} is {value!r:.80}; expected a whole number, {least} to {_LONGEST}")
    return value


def counts_of(value: Any, name: str, least: int = 0, most: int = MOST_CHANNELS) -> tuple[int, ...]:
    """A list of whole numbers."""
    if not isinstance(value, list) or len(value) > most:
        raise InputError(f"{name} is {value!r:.80}; expected a list of at most {most} whole numbers")
    return tuple(count_of(each, name, least) for each in value)


def range_of(value: Any) -> tuple[float, float] | None:
    """Black and white; None where they are not given."""
    if value is None:
        return None
    numbers = numbers_of(value, "range")
    if len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise InputError(f"range is {value!r:.80}; expected two numbers, black and white, as in [0, 4095]")
    return numbers[0], numbers[1]
