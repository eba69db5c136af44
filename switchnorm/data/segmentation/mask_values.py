"""`data.values`: which class each number, or each colour, of a mask is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from switchnorm.data.segmentation.labels import GREATEST, IGNORED, Numbering
from switchnorm.errors import InputError
from switchnorm.text import canonical

#: What a map says of a number that does not count, besides null.
VOID = ("void", "ignore")

_COLOR = re.compile("#([0-9a-fA-F]{6})")
_EXAMPLE = "{0: background, 255: road}"


@dataclass(frozen=True)
class Values:
    """What the numbers of masks mean, or their colours as the numbers 0xRRGGBB.

    Args:
        classes: the names, each once, in the order of the smallest number of each, which is that of the labels.
        numbers: of each class, ascending.
        void: the numbers that do not count, ascending.
        by_color: whether they are colours.
    """

    classes: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]
    void: tuple[int, ...]
    by_color: bool

    def numbering_of(self, names: Sequence[str]) -> Numbering:
        """How masks of numbers are read, and predictions written; those of colours are written by their labels.

        Args:
            names: the classes in the order of their labels, which a run may have in another one.

        Raises:
            InputError: a class without a number.
        """
        if self.by_color:
            return Numbering(tuple(range(len(names))), (IGNORED,))
        numbers_of = dict(zip(map(canonical, self.classes), self.numbers, strict=True))
        if absent := [name for name in names if canonical(name) not in numbers_of]:
            raise InputError(f"data.values {self} has no number for class {absent[0]!r}; give it one")
        numbers = [numbers_of[canonical(name)] for name in names]
        also = tuple((number, label) for label, each in enumerate(numbers) for number in each[1:])
        return Numbering(tuple(each[0] for each in numbers), self.void, also, f"data.values {self}")

    @property
    def colors(self) -> tuple[tuple[int, int], ...]:
        """The colours as `Legend` takes them."""
        if not self.by_color:
            return ()
        of_classes = ((color, label) for label, each in enumerate(self.numbers) for color in each)
        return (*of_classes, *((color, IGNORED) for color in self.void))

    def __str__(self) -> str:
        meant = {number: name for name, each in zip(self.classes, self.numbers, strict=True) for number in each}
        return written_values(meant | dict.fromkeys(self.void), by_color=self.by_color)


def written_values(meant: Mapping[int, str | None], *, by_color: bool = False) -> str:
    """A map as `data.values` takes it, the numbers ascending; of a long one the beginning."""
    shown = [f"'#{number:06x}'" if by_color else str(number) for number in sorted(meant)]
    entries = [f"{key}: {meant[number] or 'null'}" for key, number in zip(shown, sorted(meant), strict=True)]
    more = f", and {len(entries) - 12} more" if len(entries) > 12 else ""
    return f"{{{', '.join(entries[:12])}{more}}}"


def parse_values(values: Mapping[Any, Any]) -> Values:
    """What a map of the configuration says.

    Args:
        values: from numbers or colours ("#804080") to names of classes; null, "void" and "ignore" do not count.

    Raises:
        InputError: no map or an empty one, a key that is neither, both kinds, a number out of range or said twice, or
            a name that is none.
    """
    if not isinstance(values, Mapping) or not values:
        raise InputError(f"values must say which class each number is, {_EXAMPLE}, got {values!r}")
    meant: dict[int, str | None] = {}
    kinds: dict[bool, Any] = {}
    for key, name in values.items():
        number, by_color = _number(key)
        kinds[by_color] = key
        if len(kinds) > 1:
            raise InputError(
                f"values has the number {kinds[False]} and the colour {kinds[True]!r}; expected numbers alone or "
                "colours alone"
            )
        if number in meant:
            raise InputError(f"values says twice what {key!r} is; leave one of them")
        meant[number] = _class(key, name)
    classes = list(dict.fromkeys(meant[number] for number in sorted(meant)))
    names = tuple(name for name in classes if name is not None)
    if not 1 <= len(names) <= IGNORED:
        raise InputError(f"values names {len(names)} classes; expected 1 to {IGNORED}, {_EXAMPLE}")
    numbers = {name: tuple(sorted(number for number in meant if meant[number] == name)) for name in (*names, None)}
    return Values(names, tuple(numbers[name] for name in names), numbers[None], True in kinds)


def parse_color(text: Any) -> int | None:
    """ "#804080" as 0x804080; None for anything else."""
    found = _COLOR.fullmatch(text) if isinstance(text, str) else None
    return int(found[1], 16) if found else None


def _number(key: Any) -> tuple[int, bool]:
    """A key as a number, and whether it is a colour."""
    color = parse_color(key)
    if color is not None:
        return color, True
    if isinstance(key, str) and re.fullmatch("[0-9]+", key):  # JSON has no other keys
        key = int(key)
    if not isinstance(key, int) or isinstance(key, bool):
        raise InputError(f"values has the key {key!r}; expected numbers from 0 to {GREATEST}, or colours as '#804080'")
    if not 0 <= key <= GREATEST:
        raise InputError(
            f"values has the number {key}; the numbers of masks are 0 to {GREATEST}, the nearest is "
            f"{min(max(key, 0), GREATEST)}, and a colour is written '#804080'"
        )
    return key, False


def _class(key: Any, name: Any) -> str | None:
    if name is None or (isinstance(name, str) and name.strip() in VOID):
        return None
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            f"values says that {key!r} is {name!r}; expected the name of a class, in quotes where YAML takes it for "
            "something else, or null for what does not count"
        )
    return canonical(name.strip())
