"""A checksum of a whole checkpoint, kept in the file itself: torch does not look at those of the zip format.

It is the comment with which a zip file may end, so that every reader of such files still reads it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from switchnorm.errors import InputError

_COMMENT = re.compile(rb"switchnorm sha256 [0-9a-f]{64}")
_LENGTH = len(b"switchnorm sha256 ") + 64
#: A zip file ends with the length of its comment.
_FIELD, _NONE = 2, b"\0\0"
_CHUNK = 2**22


def write_with_checksum(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a zip file, and the checksum of all its bytes.

    Args:
        path: of the file.
        write: writes the zip file to the file that it is given, from its beginning to its end.
    """
    with path.open("wb+") as file:
        hashed = _Hashed(file)
        try:
            write(hashed)  # type: ignore[arg-type]
        except Exception:
            if hashed.error is not None:  # what came through torch's writer may be another error
                raise hashed.error from None
            raise
        file.seek(-_FIELD, 2)
        if file.read(_FIELD) != _NONE:
            raise ValueError("expected a zip file without a comment")
        file.seek(-_FIELD, 2)
        file.write(_LENGTH.to_bytes(_FIELD, "little"))
        file.write(b"switchnorm sha256 " + hashed.digest.hexdigest().encode())


def verify(path: Path) -> None:
    """Raise `InputError` if a file has a checksum, and not the content that it was made of."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _LENGTH + _FIELD:
            return
        file.seek(-_LENGTH - _FIELD, 2)
        field, comment = file.read(_FIELD), file.read(_LENGTH)
        if not _COMMENT.fullmatch(comment):
            return  # somebody else's
        digest = hashlib.sha256()
        file.seek(0)
        left = size - _LENGTH - _FIELD
        while left and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        digest.update(_NONE)
    if field != _LENGTH.to_bytes(_FIELD, "little") or comment[-64:] != digest.hexdigest().encode():
        raise InputError(f"checkpoint {str(path)!r} is damaged: its content is not that of its checksum")


class _Hashed:
    """A file that is written once, from beginning to end, and what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()
