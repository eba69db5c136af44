"""Files that lie in tar archives, here or anywhere that fsspec reaches, beside those that lie in folders."""

from __future__ import annotations

import functools
import io
import os
from typing import Any, BinaryIO

#: Archives that a process keeps open.
_OPEN = 64


class Member(str):
    """The path of a file in an archive, "SHARD.tar/PATH", which knows where in there its bytes are.

    Args:
        archive: path or URL.
        name: of the file, in the archive.
        offset: of its bytes.
        size: how many there are.
    """

    archive: str
    offset: int
    size: int

    def __new__(cls, archive: str, name: str, offset: int, size: int) -> Member:
        """Put the path together."""
        made = super().__new__(cls, f"{archive}/{name}")
        made.archive, made.offset, made.size = archive, offset, size
        return made

    def __reduce__(self) -> Any:
        return Member, (self.archive, self[len(self.archive) + 1 :], self.offset, self.size)

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            OSError: the archive is gone, or ends before them.
        """
        if is_url(self.archive):
            fs, path = file_system(self.archive)
            found: bytes = fs.cat_file(path, self.offset, self.offset + self.size)
        else:
            opened = _opened(self.archive, os.getpid())  # held until it is read, whoever else opens others
            found = os.pread(opened.number, self.size, self.offset)
        if len(found) < self.size:
            raise OSError(f"{self.archive} ends {self.size - len(found)} bytes before it does")
        return found


def open_file(path: str) -> BinaryIO:
    """A file of a folder or of an archive, for reading."""
    return io.BytesIO(path.read()) if isinstance(path, Member) else open(path, "rb")


def size_of_file(path: str) -> int:
    """How many bytes a file of a folder or of an archive has."""
    return path.size if isinstance(path, Member) else os.stat(path).st_size


def is_url(place: str) -> bool:
    """Whether fsspec alone knows the place: "s3://bucket/data", "simplecache::https://host/data"."""
    return "://" in place


def file_system(url: str) -> tuple[Any, str]:
    """What reads a URL, and the path that it has there.

    Raises:
        ImportError, ValueError: nothing is installed that does, or nothing is known to.
    """
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url)
    return fs, path


class _Descriptor:
    """An archive that is open until nobody has this object any more."""

    def __init__(self, archive: str) -> None:
        self.number = os.open(archive, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@functools.lru_cache(_OPEN)
def _opened(archive: str, process: int) -> _Descriptor:
    return _Descriptor(archive)
