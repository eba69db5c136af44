"""Names of classes and their colours as text: `road`, `road #804080` or `road 128 64 128`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from switchnorm.data.files.walk import same_name
from switchnorm.data.segmentation.labels import IGNORED
from switchnorm.errors import InputError
from switchnorm.text import read_text

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


def read_classes(file: Path) -> ClassNames:
    """The classes that a file names, one in each line, all with a colour or none.

    Raises:
        InputError: a file that is missing or cannot be read, no classes or too many, or a line that names none, names
            one again, or has no colour where others have.
    """
    try:
        text = same_name(read_text(file, str(file))).rstrip()
        lines = text.split("\n") if text else []
    except FileNotFoundError:
        raise InputError(f"{file} is missing; expected the name of a class in each line") from None
    if not lines or len(lines) > IGNORED:
        raise InputError(f"{file} names {len(lines)} classes; expected 1 to {IGNORED}, one in each line")
    entries = [split_color(line) for line in lines]
    names = [name for name, _ in entries]
    for number, name in enumerate(names, 1):
        if not name or names.index(name) < number - 1:
            what = f"repeats {name!r:.100}" if name else "is empty"
            raise InputError(f"{file}: line {number} {what}; expected the name of another class in each line")
        if re.search(r"(^|\s)#", name):
            raise InputError(
                f"{file}: line {number}, {lines[number - 1].strip()!r:.100}, has a # that is no colour; expected "
                "'NAME', or 'NAME #804080' with six hexadecimal digits"
            )
    colors = [color for _, color in entries if color is not None]
    if colors and len(colors) < len(entries):
        plain = next(number for number, (_, color) in enumerate(entries, 1) if color is None)
        raise InputError(
            f"{file}: line {plain}, {lines[plain - 1].strip()!r:.100}, ends with no colour as others do; expected "
            "'NAME #804080' or 'NAME 128 64 128' in all lines or in none"
        )
    return ClassNames(tuple(names), tuple(colors) or None)
