"""The zip files that torch.save writes since 1.6, read without running code from them.

Entries, below a folder of any name: "data.pkl" (the object, with storages by key), "data/KEY" (the bytes of a storage)
and "byteorder". PyTorch stores them as they are; whoever packs such a file anew may compress them.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from switchnorm.unpickling import Program, unpickle
from switchnorm.weights.tensors import Tensors

# The list of entries, of which Python makes objects about ten times as large: 100,000 storages take 7 MB.
_LARGEST_DIRECTORY = 8 << 20
# How much larger than the file its content may be: weights hardly compress.
_INFLATED, _INFLATED_LEAST = 2, 64 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def read_zip(path: Path) -> Any:
    """The object in a zip file, its tensors on the CPU.

    Raises:
        pickle.UnpicklingError: it names anything but containers, numbers and tensors, or contradicts itself.
        zipfile.BadZipFile, KeyError, EOFError, ...: it is damaged.
    """
    size = path.stat().st_size
    with _Entries(path, size) as entries:
        return _Reader(entries, size).read()


class _File(io.BufferedReader):
    """A file of which `zipfile` reads no list of entries that is larger than those of checkpoints."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; `zipfile` reads the whole list at once."""
        if size is not None and size > _LARGEST_DIRECTORY:
            raise pickle.UnpicklingError("it has more entries than any checkpoint")
        return super().read(size)


class _Entries:
    """The entries of a zip file by name, with checksums looked at, and no more of them than fits its size."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = _File(io.FileIO(path))
        self._size = size
        self._left = _INFLATED * size + _INFLATED_LEAST
        try:
            found = zipfile.ZipFile(self._file).infolist()
            self._found = {info.filename: info for info in found}
            if not found or len(self._found) < len(found):
                raise pickle.UnpicklingError("it has two entries of one name, or none")
            self.folder = found[0].filename.partition("/")[0]
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return f"{self.folder}/{name}" in self._found

    def read(self, name: str) -> Tensor:
        """The bytes of an entry, (N,) uint8.

        Raises:
            KeyError: no such entry.
            pickle.UnpicklingError, EOFError, zlib.error: it is damaged, or larger than it may be.
        """
        info = self._found[f"{self.folder}/{name}"]
        self._left -= info.file_size
        if self._left < 0:
            raise pickle.UnpicklingError(f"its entries are much larger than the file, {info.filename!r:.100} the last")
        self._file.seek(info.header_offset)
        signature, *lengths = _LOCAL_HEADER.unpack(self._file.read(_LOCAL_HEADER.size))
        begin = self._file.tell() + sum(lengths)
        if signature != b"PK\x03\x04" or info.flag_bits & 1 or begin + info.compress_size > self._size:
            raise pickle.UnpicklingError(f"entry {info.filename!r:.100} is damaged")
        self._file.seek(begin)
        content = torch.empty(info.file_size, dtype=torch.uint8)
        buffer = content.numpy().data
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size:
            filled = self._file.readinto(buffer)
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            filled = self._inflate(info.compress_size, buffer)
        else:
            raise pickle.UnpicklingError(f"entry {info.filename!r:.100} is packed in a way that PyTorch does not know")
        # PyTorch can be told to leave checksums out.
        if filled != info.file_size or (info.CRC and zlib.crc32(buffer) != info.CRC):
            raise pickle.UnpicklingError(f"entry {info.filename!r:.100} is damaged: its checksum is another")
        return content

    def _inflate(self, packed: int, buffer: memoryview) -> int:
        """Fill the buffer with what so many bytes of the file inflate to; how many there are, at most one too many."""
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        filled, chunk = 0, b""
        while not inflater.eof and filled <= len(buffer):
            chunk = inflater.unconsumed_tail or self._file.read(min(packed, 1 << 20))
            packed -= 0 if inflater.unconsumed_tail else len(chunk)
            # One byte more than there should be tells that there is more.
            part = inflater.decompress(chunk, min(1 << 20, len(buffer) - filled + 1))
            if not chunk and not part:
                raise EOFError("an entry ends before its end")
            buffer[filled : filled + len(part)] = part[: len(buffer) - filled]
            filled += len(part)
        return filled


class _Reader:
    """Puts storages, each read once, into the object of a zip file."""

    def __init__(self, entries: _Entries, size: int) -> None:
        self._entries = entries
        self._names = Tensors(size).names
        self._read: dict[str, Tensor] = {}
        self._swapped = "byteorder" in entries and entries.read("byteorder").numpy().tobytes() == b"big"

    def read(self) -> Any:
        program = self._entries.read("data.pkl").numpy().tobytes()
        return unpickle(Program(io.BytesIO(program), len(program)), self._names, persistent=self._storage)

    def _storage(self, described: Any) -> Tensor:
        """The numbers of a storage, (N,)."""
        kind, dtype, key, _location, count = described
        if kind not in ("storage", b"storage") or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("it asks for something that is no storage")
        if key not in self._read:
            content = self._entries.read(f"data/{key}")
            if self._swapped:
                content.untyped_storage().byteswap(dtype)
            self._read[key] = content
        flat = self._read[key].view(dtype)
        if flat.numel() != count:
            raise pickle.UnpicklingError(f"storage {key!r:.100} has another length than its tensors say")
        return flat
