"""Pickles read as data: containers, numbers, text, and what a reader puts in place of a few names.

A pickle is a program for a small machine, which may name anything in Python and have it called. Here it may name what a
reader lists and nothing else, in as many steps as files of its size need, and what comes out nests no deeper than
people write. So what a file costs to read is bounded by how long it is, whoever wrote it.
"""

from __future__ import annotations

import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# Reading a code or its argument is a step, and makes objects of up to 200 bytes, with what is noted of each while it is
# checked. What a stand-in is made of is copied, at about the same price. A tensor takes some 70 steps.
_STEPS, _BYTES_PER_STEP = 1_000_000, 64
# Of an empty set, which is four times as large as other objects.
_STEPS_OF_SET = 4
_DEEPEST, _MOST_VALUES = 100, 4_000_000
# Of a key: characters, and parts of a tuple.
_LONGEST_KEY, _MOST_PARTS = 10_000, 16
# Of a line, which holds a name.
_LONGEST_LINE = 1_000
# Text with one character beyond Latin-1 takes up to four bytes for each; so many bytes of it are read.
_WIDE_TEXT = 32 << 20


@dataclass(frozen=True)
class Maker:
    """What stands in for a class or function that a pickle names; nothing else is called while a pickle is read."""

    make: Callable[..., Any]


class StandIn:
    """A value that a pickle may give a state."""

    def take(self, state: Any) -> None:
        """Take the state that the pickle holds for it."""


class Inert(StandIn):
    """A value that is not needed: it takes whatever it is made from and what is put into it, and keeps none of it."""

    def __init__(self, *parts: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Take an item."""

    def extend(self, items: object) -> None:
        """Take items."""


class Program:
    """A file of one pickle or several, which gives no more than it holds and has so many steps for all of them.

    Args:
        file: at the start of the first pickle.
        size: of the file, in bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._steps = _STEPS + size // _BYTES_PER_STEP

    def take(self, steps: int) -> None:
        """Take some of the steps that are left."""
        self._steps -= steps
        if self._steps < 0:
            raise pickle.UnpicklingError("it takes more steps than any file of its size needs")

    def read(self, count: int) -> bytes:
        """The next bytes."""
        self.take(1)
        # Python allocates what is asked for before it looks at the file.
        if count > 1 and count > self._size - self._file.tell():
            raise EOFError(f"{count} bytes are not there")
        return self._file.read(count)

    def readline(self) -> bytes:
        """The next line."""
        self.take(1)
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise pickle.UnpicklingError(f"it has a name of more than {_LONGEST_LINE} characters")
        return line


def scalar_key(key: Any) -> Hashable:
    """A key of a dictionary or an entry of a set, which costs little to compare, however often a file does so.

    Hashes of nested tuples take as long as a file wants, and those of tuples and huge numbers can be made to collide.

    Raises:
        pickle.UnpicklingError: neither text, nor bytes, a number of 64 bits, None, nor a tuple of texts; or a long one.
    """
    small = isinstance(key, int) and abs(key) < 1 << 64
    texts = isinstance(key, tuple) and len(key) <= _MOST_PARTS and all(map(_is_text, key))
    if key is None or small or texts or isinstance(key, float) or _is_text(key):
        found: Hashable = key
        return found
    raise pickle.UnpicklingError(f"{type(key).__name__} is no key of a dictionary, or a long one")


def _is_text(key: Any) -> bool:
    return isinstance(key, str | bytes) and len(key) <= _LONGEST_KEY


def _ordered(pairs: Iterable[Any] = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((scalar_key(key), value) for key, value in pairs)


def _counter(counts: Any = None) -> Counter[Any]:
    if not isinstance(counts, dict):
        raise pickle.UnpicklingError("a counter is made of numbers by key")
    return Counter(counts)


def _set(items: Any = ()) -> set[Hashable]:
    if not isinstance(items, list | tuple):
        raise pickle.UnpicklingError("a set is made of a list")
    return {scalar_key(item) for item in items}


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """Bytes as pickles of protocol 2 hold them: text of Latin-1. Other encodings may make much of little."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"the encoding {encoding!r:.40} is not allowed")
    return text.encode("latin1")


#: What every pickle may name: containers, and how protocol 2 spells bytes.
CONTAINERS: Mapping[str, Any] = {
    "collections.OrderedDict": Maker(_ordered),
    "collections.Counter": Maker(_counter),
    "_codecs.encode": Maker(_bytes),
    **{
        f"{builtins}.{name}": maker
        for builtins in ("builtins", "__builtin__")
        for name, maker in {
            "set": Maker(_set),
            "complex": Maker(lambda real, imaginary: complex(float(real), float(imaginary))),
            "bytearray": Maker(Inert),  # asked for a number, the real one has so many bytes
        }.items()
    },
}

_CODES = [
    code[0]
    for code in (
        *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.BINPERSID),
        *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.LONG4, pickle.BINFLOAT),
        *(pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
        *(pickle.SHORT_BINUNICODE, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
        *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET),
    )
]


def _steps_to_copy(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value) // _BYTES_PER_STEP
    return len(value) if isinstance(value, list | tuple | dict | set) else 0


# Python's implementation, not that in C, which allocates as many memo entries as a file claims to have. Type checkers
# know little of it.
_Pythons: Any = pickle._Unpickler


class _Machine(_Pythons):
    """The machine that pickles are programs for, without the codes that no file needs which this package reads."""

    dispatch = {code: _Pythons.dispatch[code] for code in _CODES}  # noqa: RUF012 - as its base has it

    def __init__(
        self, program: Program, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None, encoding: str
    ) -> None:
        super().__init__(program, encoding=encoding)
        self.program = program
        self.names = names
        self.persistent = persistent
        self.wide = _WIDE_TEXT

    def find_class(self, module: str, name: str) -> Any:
        """What stands in for a name; nothing is imported."""
        full = f"{module}.{name}"
        if full not in self.names:
            raise pickle.UnpicklingError(f"it asks for {full!r:.100}")
        return self.names[full]

    def persistent_load(self, key: Any) -> Any:
        """What the file holds beside the pickle."""
        if self.persistent is None:
            raise pickle.UnpicklingError("it asks for what is not in the file")
        return self.persistent(key)

    def load_reduce(self) -> None:
        """Call a stand-in."""
        parts = self.stack.pop()
        maker = self.stack[-1]
        if not isinstance(maker, Maker) or not isinstance(parts, tuple):
            raise pickle.UnpicklingError("it calls what cannot be called")
        # A file names one object as often as it likes, and each stand-in would have a copy of it.
        self.program.take(sum(map(_steps_to_copy, parts)))
        self.stack[-1] = maker.make(*parts)

    def load_build(self) -> None:
        """Give a stand-in its state. What PyTorch notes about an OrderedDict of tensors is not needed."""
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, StandIn):
            made.take(state)
        elif not isinstance(made, OrderedDict):
            raise pickle.UnpicklingError(f"{type(made).__name__} takes no state")

    def load_setitem(self) -> None:
        """Put an entry into a dictionary."""
        value = self.stack.pop()
        self._fill([self.stack.pop(), value])

    def load_setitems(self) -> None:
        """Put entries into a dictionary."""
        self._fill(self.pop_mark())

    def _fill(self, items: list[Any]) -> None:
        made = self.stack[-1]
        if isinstance(made, Inert):
            return
        if not isinstance(made, dict) or len(items) % 2:
            raise pickle.UnpicklingError(f"{type(made).__name__} takes no entries by key")
        for key, value in zip(items[::2], items[1::2], strict=True):
            made[scalar_key(key)] = value

    def load_empty_set(self) -> None:
        """Make a set."""
        self.program.take(_STEPS_OF_SET - 1)
        self.append(set())

    def load_additems(self) -> None:
        """Put items into a set."""
        items = self.pop_mark()
        made = self.stack[-1]
        if not isinstance(made, set):
            raise pickle.UnpicklingError(f"{type(made).__name__} takes no items")
        made.update(map(scalar_key, items))

    def load_binunicode(self) -> None:
        """Text, its length in four bytes."""
        self._text(4)

    def load_binunicode8(self) -> None:
        """Text, its length in eight bytes."""
        self._text(8)

    def _text(self, width: int) -> None:
        raw = self.read(int.from_bytes(self.read(width), "little"))
        if re.search(rb"[\xc4-\xff]", raw):
            self.wide -= len(raw)
            if self.wide < 0:
                raise pickle.UnpicklingError(f"it has more than {_WIDE_TEXT} bytes of text")
        self.append(str(raw, "utf-8", "surrogatepass"))

    def load_frame(self) -> None:
        """Take no notice of frames, which say how much to read ahead."""
        self.read(8)

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.EMPTY_SET[0]: load_empty_set,
        pickle.ADDITEMS[0]: load_additems,
        pickle.BINUNICODE[0]: load_binunicode,
        pickle.BINUNICODE8[0]: load_binunicode8,
        pickle.FRAME[0]: load_frame,
    }


def unpickle(
    program: Program,
    names: Mapping[str, Any],
    *,
    persistent: Callable[[Any], Any] | None = None,
    encoding: str = "latin1",
) -> Any:
    """The next object of a program.

    Args:
        program: at its start; afterwards behind it.
        names: what stands in for what the pickle may name, by "module.name": a `Maker` or a value. See `CONTAINERS`.
        persistent: what the file holds beside the pickle, by the key that the pickle has for it.
        encoding: of Python 2's strings; "bytes" leaves them as they are.

    Raises:
        pickle.UnpicklingError: a name that is not listed, or more steps, nesting or values than files of its size need.
        Exception: of any kind, for a pickle that is damaged.
    """
    value = _Machine(program, names, persistent, encoding).load()
    _count(value, _DEEPEST, {})
    return value


def _count(value: Any, levels: int, counts: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How deep a value nests and how many it holds, with what is shared written out; raises where it is too much.

    Whoever reads a pickle walks over it, and what contains itself, or twice what contains twice, has no end.
    """
    if not isinstance(value, dict | list | tuple):
        return 0, 1
    if id(value) in counts:
        deep, many = counts[id(value)]
    else:
        if levels == 0:
            raise pickle.UnpicklingError(f"it nests more than {_DEEPEST} deep")
        deep, many = 0, 1
        for item in dict.values(value) if isinstance(value, dict) else value:
            below, held = _count(item, levels - 1, counts)
            deep, many = max(deep, below), many + held
        deep += 1
        counts[id(value)] = deep, many
    if deep > levels or many > _MOST_VALUES:
        raise pickle.UnpicklingError(f"it nests more than {_DEEPEST} deep or holds more than {_MOST_VALUES} values")
    return deep, many
