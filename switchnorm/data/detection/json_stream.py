"""Large JSON files, of which lists are read one entry at a time, in memory for a few of them."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from switchnorm.errors import InputError

#: Bytes that are read at once, and that one entry may have.
_BLOCK, _LARGEST_ENTRY = 1 << 22, 1 << 26
# Of JSON, "-Infinity" or an escaped character: an error closer to the window's end may be the end's.
_LONGEST_WORD = 16
_SPACE = re.compile(r"[ \t\n\r]*")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lists(path: Path, title: str, lists: Mapping[str, Callable[[Any], None]]) -> set[str]:
    """Hand the entries of lists to what takes them, in the order of the file.

    Args:
        path: of a file that holds a JSON object.
        title: what errors call it.
        lists: what takes each entry of the lists, by their keys; what other keys hold is passed over.

    Returns:
        The keys that are there.

    Raises:
        InputError: no such file, no JSON object, a key that stands twice, another value than a list, or an entry that
            nests or is longer than any of these need.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{title} is no file")
        with path.open("rb") as file:
            return _Stream(file, title).lists(lists)
    except FileNotFoundError as error:
        raise InputError(f"{title} is missing") from error
    except OSError as error:
        raise InputError(f"{title} cannot be read: {error.strerror}") from error


class _Stream:
    """A file's text, of which a window is in memory."""

    def __init__(self, file: IO[bytes], title: str) -> None:
        self.title = title
        self._file = file
        head = file.read(2)
        file.seek(0)
        encoding = "utf-16" if head in _UTF16 else "utf-8-sig"
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._decode = json.JSONDecoder(object_pairs_hook=_object).raw_decode
        self._text, self._place, self._line, self._done = "", 0, 1, False

    def lists(self, wanted: Mapping[str, Callable[[Any], None]]) -> set[str]:
        """As `read_lists`."""
        found: set[str] = set()
        self._expect("{", "a JSON object")
        if self._next() == "}":
            return found
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise self._no_json("expected a key")
            if key in found:
                raise self._no_json(f"key {key!r:.60} is set twice")
            found.add(key)
            self._expect(":", f"':' after key {key!r:.60}")
            if key in wanted:
                self._entries(key, wanted[key])
            elif self._next() in "[{":
                self._pass_over()
            else:
                self._value()
            if not self._goes_on("}"):
                break
        if self._next():
            raise self._no_json("expected nothing after the object")
        return found

    def _entries(self, key: str, take: Callable[[Any], None]) -> None:
        self._expect("[", f"a list under {key!r}")
        if self._next() == "]":
            self._place += 1
            return
        while True:
            take(self._value())
            if not self._goes_on("]"):
                return

    def _goes_on(self, closing: str) -> bool:
        """Whether a comma follows, and not the end of what is read."""
        mark = self._next()
        if not mark or mark not in f",{closing}":
            raise self._no_json(f"expected ',' or '{closing}'")
        self._place += 1
        return mark == ","

    def _expect(self, mark: str, what: str) -> None:
        if self._next() != mark:
            raise InputError(f"{self._where(self._place)}: expected {what}")
        self._place += 1

    def _next(self) -> str:
        """The next character that is no space, at which the window is then; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            assert match is not None
            self._place = match.end()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more():
                return ""

    def _value(self) -> Any:
        """The next value, behind which the window is then."""
        self._next()
        size = _BLOCK
        while True:
            try:
                value, end = self._decode(self._text, self._place)
                # A number at the end of the window may go on.
                if end < len(self._text) or self._done:
                    self._place = end
                    return value
            except RecursionError:
                raise self._no_json("it nests too deep") from None
            except json.JSONDecodeError as error:
                goes_on = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _LONGEST_WORD
                if self._done or not goes_on:
                    raise self._no_json(error.msg, error.pos) from None
            except ValueError as error:
                raise self._no_json(str(error)) from None
            if len(self._text) - self._place > _LARGEST_ENTRY:
                raise self._no_json(f"an entry has more than {_LARGEST_ENTRY >> 20} MB")
            self._more(size)
            size *= 2

    def _pass_over(self) -> None:
        """Skip a list or an object of whatever size."""
        depth, in_text = 0, False
        marks = re.compile(r'[\[\]{}"]'), re.compile(r'["\\]')
        while True:
            match = marks[in_text].search(self._text, self._place)
            if match is None:
                self._place = len(self._text)
                if not self._more():
                    raise self._no_json("it ends within a value")
                continue
            self._place, mark = match.end(), match[0]
            if mark == "\\":
                while self._place >= len(self._text) and self._more():
                    pass
                self._place += 1
            elif mark == '"':
                in_text = not in_text
            else:
                depth += 1 if mark in "[{" else -1
                if not depth:
                    return

    def _more(self, size: int = _BLOCK) -> bool:
        """Read on, and forget what is behind; whether there was anything."""
        if self._done:
            return False
        block = self._file.read(size)
        self._done = len(block) < size
        try:
            text = self._decoder.decode(block, self._done)
        except UnicodeDecodeError as error:
            raise InputError(f"{self.title} is no text in UTF-8: {error.reason}") from error
        self._line += self._text.count("\n", 0, self._place)
        self._text, self._place = self._text[self._place :] + text, 0
        return bool(text) or not self._done

    def _no_json(self, why: str, place: int | None = None) -> InputError:
        return InputError(f"{self._where(self._place if place is None else place)}: no JSON that can be read: {why}")

    def _where(self, place: int) -> str:
        return f"{self.title}, line {self._line + self._text.count(chr(10), 0, place)}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"key {twice!r:.60} is set twice")
    return found
