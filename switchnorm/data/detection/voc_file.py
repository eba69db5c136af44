"""Pascal VOC's XML files: the objects on a picture each. Nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from switchnorm.errors import InputError
from switchnorm.text import canonical

#: Bytes of a file, levels of elements, and characters of a value: far more than any picture's objects need.
_LARGEST, _DEEPEST, _LONGEST_VALUE = 16 << 20, 32, 1000
_LONGEST_SIDE = 65_535
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class VocObject:
    """An object as it is written.

    Attributes:
        line: where it begins in its file, from 1.
        values: the text of elements by their path below the object: "name", "bndbox/xmin".
    """

    line: int
    values: dict[str, str] = field(default_factory=dict)
    name: str = ""
    box: tuple[float, float, float, float] = (math.nan,) * 4
    difficult: bool = False


@dataclass
class VocFile:
    """What a file says.

    Attributes:
        filename: of the picture, as the file has it; "" for none.
        database: where the picture is from, as the file has it; "" for nothing.
        size: height and width; None where they are absent or 0.
        objects: in the order of the file.
    """

    filename: str = ""
    database: str = ""
    size: tuple[int, int] | None = None
    objects: list[VocObject] = field(default_factory=list)


def read_voc(path: Path) -> VocFile:
    """The objects on a picture.

    A file with a document type is refused, as are all entities with it: annotations have none.

    Raises:
        InputError: no such file, no XML, or an object without a name or the four corners of its box.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise InputError(f"{path} has more than {_LARGEST >> 20} MB; no annotation is as large")
    return _Reader(path).read(content)


class _Reader:
    """Takes the elements of a file as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = VocFile()
        self._size: dict[str, str] = {}
        self._open: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._take
        parser.StartDoctypeDeclHandler = self._refuse

    def read(self, content: bytes) -> VocFile:
        """What the file says."""
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            raise InputError(
                f"{self._path}, line {error.lineno}: no XML that can be read: {expat.ErrorString(error.code)}"
            ) from error
        except InputError:
            raise
        except (ValueError, LookupError) as error:  # of an encoding that Python lacks
            raise InputError(f"{self._path}: no XML that can be read: {error}") from error
        file = self._file
        height, width = (self._side(self._size.get(side, "")) for side in ("height", "width"))
        file.size = (height, width) if height and width else None
        for each in file.objects:
            self._complete(each)
        return file

    def _refuse(self, *_: object) -> None:
        raise InputError(f"{self._path}, line {self._parser.CurrentLineNumber}: a document type; annotations have none")

    def _start(self, name: str, _: dict[str, str]) -> None:
        line = self._parser.CurrentLineNumber
        if len(self._open) >= _DEEPEST:
            raise InputError(f"{self._path}, line {line}: nested more than {_DEEPEST} deep")
        if not self._open and name != "annotation":
            raise InputError(f"{self._path}, line {line}: expected <annotation>, got <{name:.60}>")
        if name == "object" and "object" in self._open:
            raise InputError(f"{self._path}, line {line}: an object within an object; expected one after the other")
        if len(self._open) == 1 and name == "object":
            self._file.objects.append(VocObject(line))
        self._open.append(name)
        self._text, self._length = [], 0

    def _take(self, text: str) -> None:
        if self._length <= _LONGEST_VALUE:
            self._text.append(text)
            self._length += len(text)

    def _end(self, _: str) -> None:
        path, text = "/".join(self._open[1:]), "".join(self._text).strip()
        self._open.pop()
        self._text, self._length = [], 0
        if path.startswith("object/"):  # parts of an object have names and boxes too, at paths of their own
            values, key = self._file.objects[-1].values, path.removeprefix("object/")
            if key in values and key in ("name", *(f"bndbox/{corner}" for corner in _CORNERS)):
                line = self._parser.CurrentLineNumber
                raise InputError(f"{self._path}, line {line}: the object has a second {key.rpartition('/')[2]}")
            values[key] = text
        elif path.startswith("size/"):
            self._size[path.removeprefix("size/")] = text
        elif path == "filename":
            self._file.filename = text[:_LONGEST_VALUE]
        elif path == "source/database":
            self._file.database = text[:_LONGEST_VALUE]

    def _side(self, text: str) -> int:
        """A side in pixels; 0 where the file has none, as some tools write it."""
        value = 0.0 if not text else _number(text)
        if not 0 <= value <= _LONGEST_SIDE or value % 1:
            raise InputError(f"{self._path} has size {text!r:.40}; expected numbers of pixels")
        return int(value)

    def _complete(self, each: VocObject) -> None:
        where = f"{self._path}, line {each.line}: the object"
        name = each.values.get("name", "")
        if not name or len(name) > _LONGEST_VALUE:
            raise InputError(f"{where} has no name of a class")
        corners = []
        for corner in _CORNERS:
            text = each.values.get(f"bndbox/{corner}")
            if text is None:
                raise InputError(f"{where} has no {corner}; expected <bndbox> with {', '.join(_CORNERS)}")
            value = _number(text)
            if not math.isfinite(value):
                raise InputError(f"{where} has {corner} {text!r:.40}; expected a number")
            corners.append(value)
        difficult = each.values.get("difficult", "0")
        if difficult not in ("0", "1", ""):
            raise InputError(f"{where} has difficult {difficult!r:.40}; expected 0 or 1")
        each.name, each.difficult = canonical(name), difficult == "1"
        each.box = (corners[0], corners[1], corners[2], corners[3])
        each.values = {}


def _number(text: str) -> float:
    """What a text says; NaN where that is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
