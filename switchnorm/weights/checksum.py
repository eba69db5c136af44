"""A checksum of a whole checkpoint, kept in the file itself: torch does not look at those of the zip format.

It is the comment with which a zip file may end, so that every reader of such files still reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from switchnorm.errors import InputError

_PREFIX = b"switchnorm sha256 "
_LENGTH = len(_PREFIX) + 2 * hashlib.sha256().digest_size
#: How a zip file ends: a record of this size and mark, whose last two bytes are the length of the comment behind it.
_END, _MARK, _FIELD = 22, b"PK\5\6", 2
_NO_COMMENT, _COMMENTED = bytes(_FIELD), _LENGTH.to_bytes(_FIELD, "little")
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
        if file.read(_FIELD) != _NO_COMMENT:
            raise ValueError("expected a zip file without a comment")
        file.seek(-_FIELD, 2)
        file.write(_COMMENTED + _PREFIX + hashed.digest.hexdigest().encode())


def verify(path: Path) -> None:
    """Raise `InputError` if a zip file has a checksum, and not the content that it was made of.

    One without a checksum is somebody else's. One flipped bit anywhere makes no such file out of one that has it.
    """
    with path.open("rb") as file:
        left = max(0, file.seek(0, 2) - _LENGTH - _FIELD)
        file.seek(max(0, left + _FIELD - _END))
        tail = file.read()
        end = tail[max(0, tail.rfind(_MARK)) :][:_END]
        if _PREFIX not in tail and not (end.startswith(_MARK) and end.endswith(_COMMENTED)):
            return
        file.seek(0)
        digest = hashlib.sha256()
        while left and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        digest.update(_NO_COMMENT)
    if not tail.endswith(_COMMENTED + _PREFIX + digest.hexdigest().encode()):
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
