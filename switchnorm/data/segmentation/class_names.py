"""Names of classes and their colours as text: `road`, `road #804080` or `road 128 64 128`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from switchnorm.classes import names_in
from switchnorm.data.segmentation.labels import IGNORED
from switchnorm.errors import InputError
from switchnorm.text import canonical

#: Red, green and blue in 0..255.
Color = tuple[int, int, int]

_COLORED = re.compile(r"(.*\S)\s+(?:#([0-9a-fA-F]{6})|([0-9]{1,3})\s+([0-9]{1,3})\s+([0-9]{1,3}))")


class ClassNames(NamedTuple):
    """Classes in the order of their labels.

    Args:
        names: what they are called.
        colors: one for each, or None.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] | None


def split_color(text: str) -> tuple[str, Color | None]:
    """A class's name, and the colour that follows it: # and six hexadecimal digits, or three numbers up to 255.

    A name that itself ends so needs a colour after it.
    """
    found = _COLORED.fullmatch(text.strip())
    if found is None:
        return text.strip(), None
    name, code, *numbers = found.groups()
    red, green, blue = bytes.fromhex(code) if code else map(int, numbers)
    return (name, (red, green, blue)) if max(red, green, blue) <= 255 else (text.strip(), None)


def color_of(code: str) -> Color:
    """The colour of # and six hexadecimal digits."""
    red, green, blue = bytes.fromhex(code.removeprefix("#"))
    return red, green, blue


def code_of(color: Sequence[int]) -> str:
    """Red, green and blue in 0..255 as # and six hexadecimal digits."""
    return f"#{bytes(color).hex()}"


def read_classes(file: Path) -> ClassNames:
    """The classes that a file names, one in each line, all with a colour or none.

    Raises:
        InputError: a file that is missing or cannot be read, no classes or too many, or a line that names none, names
            one again, or has no colour where others have.
    """
    lines = names_in(file, IGNORED)
    entries = [(canonical(name), color) for name, color in map(split_color, lines)]
    names = [name for name, _ in entries]
    for number, name in enumerate(names, 1):
        if names.index(name) < number - 1:
            raise InputError(f"{file}: line {number} repeats {name!r}; expected the name of another class in each line")
        if re.search(r"(^|\s)#", name):
            raise InputError(
                f"{file}: line {number}, {lines[number - 1]!r:.100}, has a # that is no colour; expected 'NAME', or "
                "'NAME #804080' with six hexadecimal digits"
            )
    colors = [color for _, color in entries if color is not None]
    if colors and len(colors) < len(entries):
        plain = next(number for number, (_, color) in enumerate(entries, 1) if color is None)
        raise InputError(
            f"{file}: line {plain}, {lines[plain - 1]!r}, ends with no colour as others do; expected "
            "'NAME #804080' or 'NAME 128 64 128' in all lines or in none"
        )
    return ClassNames(tuple(names), tuple(colors) or None)
