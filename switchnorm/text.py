"""Text that comes from outside, in whatever encoding an editor wrote it, and text that is printed, safe to show."""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import sys
import textwrap
import unicodedata
from pathlib import Path
from typing import Any, TextIO

from switchnorm.errors import InputError

# People write no JSON that nests deeper, or is longer; Python makes objects of it about twenty times as large.
_DEEPEST, _LARGEST = 32, 8 << 20
_MOST_DIGITS = 20
_LONGEST_LINE = 240
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(content: bytes, title: str) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one; lines end in "\\n".

    Args:
        content: of the file.
        title: what an error calls it.

    Raises:
        InputError: neither of the two encodings.
    """
    encoding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{title}, line {line}: expected text in UTF-8, got byte {content[error.start]:#04x}"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, title: str, largest: int = 64 << 20) -> str:
    """The text of a file, see `decode`.

    Args:
        path: of the file; what is no file, such as a pipe, may never end, and is not read.
        title: what an error calls it.
        largest: bytes that it may have.

    Raises:
        FileNotFoundError: no such file.
        InputError: it cannot be read, is too large, or no text.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{title} is no file")
        if path.stat().st_size > largest:
            raise InputError(f"{title} has more than {largest >> 20} MB; no such file is as large")
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{title} cannot be read: {error.strerror}") from error
    if not content.startswith(_UTF16) and b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise InputError(f"{title} is damaged: line {line} is no text")
    return decode(content, title)


def printable(text: str) -> str:
    """The text with control characters spelled out, so that a terminal shows them and obeys none."""
    if text.isprintable():
        return text
    return "".join(each if _is_printable(each) else each.encode("unicode_escape").decode() for each in text)


def _is_printable(character: str) -> bool:
    # For Python no space is printable but " "; those of other widths, and those that break no line, do no harm.
    return character.isprintable() or character == "\n" or unicodedata.category(character) == "Zs"


def canonical(name: str) -> str:
    """The name of a class or a file as it is compared, kept and shown, on one line.

    Systems differ in whether they write é as one character or as two; what a terminal would obey is spelled out.
    """
    return printable(unicodedata.normalize("NFC", str(name))).replace("\n", "\\n")


def say(*lines: str, file: TextIO | None = None) -> None:
    """Print lines, control characters spelled out; a terminal narrower than a line gets it broken between words.

    Args:
        lines: to print.
        file: standard output if None, or standard error.
    """
    file = sys.stdout if file is None else file
    width = terminal_width(file)
    for line in (part for each in lines for part in printable(each).split("\n")):
        if width is None or len(line) <= width:
            print(line, file=file, flush=True)
        else:
            # A path stays in one piece, so that it can be copied.
            indent = " " * (len(line) - len(line.lstrip()) + 2)
            wrapper = textwrap.TextWrapper(
                width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
            print(wrapper.fill(line), file=file, flush=True)


def first_line(error: BaseException) -> str:
    """What an error of a library's says, in the first of its lines that has words; its kind where none has."""
    return _lines(error)[0][:_LONGEST_LINE]


def last_line(error: BaseException) -> str:
    """As `first_line`, of errors that come with the way to them and say the reason last."""
    return _lines(error)[-1][:_LONGEST_LINE]


def _lines(error: BaseException) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines() if re.search("[A-Za-z]{3}", line)]
    return lines or [type(error).__name__]


def terminal_width(file: TextIO) -> int | None:
    """The columns of a terminal; None where there is none."""
    if not file.isatty():
        return None
    try:
        return os.get_terminal_size(file.fileno()).columns or None
    except OSError:
        return None


def expanded(option: str, name: str) -> Path:
    """A path as a shell would read it: ~ is the home folder, and $NAME or ${NAME} a variable of the environment.

    Args:
        option: what names it, for the error.
        name: as it is written.

    Raises:
        InputError: nothing, which would be the folder one stands in; or a variable that is not set.
    """
    if not name:
        raise InputError(f"{option} is empty; expected a path, which is . for the folder itself")
    path = os.path.expanduser(os.path.expandvars(name))
    missing = re.search(r"\$(\w+|\{\w+\})", path)
    if missing is not None and not os.path.exists(path):
        raise InputError(
            f"{option} {name!r} names the variable {missing[0]}, which is not set; set it, or write the path"
        )
    return Path(path)


def from_json(text: str, title: str) -> Any:
    """The value of a JSON text; NaN and Infinity are numbers, as Python writes them.

    Args:
        text: of a file, or of one line of it.
        title: what an error calls it.

    Raises:
        InputError: no JSON, a key that is set twice, a number that no computer holds, text that is no Unicode, or more
            nesting or length than such files need.
    """
    if len(text) > _LARGEST:
        raise InputError(f"{title} is no JSON that can be read: it has more than {_LARGEST >> 20} MB")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_float=_finite)
        _check_depth(value, _DEEPEST)
    except RecursionError as error:
        raise InputError(f"{title} is no JSON that can be read: it nests more than {_DEEPEST} deep") from error
    except ValueError as error:
        raise InputError(f"{title} is no JSON that can be read: {error}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"key {twice!r} is set twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _check_depth(value: Any, levels: int) -> None:
    if isinstance(value, str):
        value.encode()  # half a surrogate pair is an error of JSON's "\\ud800", and a `ValueError`
    if isinstance(value, dict | list):
        if not levels:
            raise RecursionError
        for inner in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_depth(inner, levels - 1)
