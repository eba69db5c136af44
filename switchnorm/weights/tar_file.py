"""The tar files that torch 0.1 wrote, read without running code from them.

Members, as `torch.save` laid them out then: "storages" (how many; then key, device and type of each, pickled, before
its length and its raw bytes; then views into them), "tensors" (how many; then key, storage and type of each, pickled,
before its dimensions, sizes, strides and offset) and "pickle" (the object, with tensors by key).
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from switchnorm.unpickling import Program, unpickle
from switchnorm.weights.tensors import TENSORS, VALUES, Tensors

_NAMES = {**VALUES, **TENSORS}
# Only the longest checkpoints have so many; Python keeps all of a tar file's entries.
_MOST_ENTRIES = 1_000


def read_tar(path: Path) -> Any:
    """The object in a tar file of torch 0.1, its tensors on the CPU.

    Raises:
        pickle.UnpicklingError: it names anything but containers, numbers and tensors, or contradicts itself.
        tarfile.TarError, KeyError, EOFError, ...: it is damaged, or no such file.
    """
    with tarfile.open(path, "r:") as tar:
        members = _members(tar, path.stat().st_size)
        views = Tensors(path.stat().st_size)
        storages = _storages(members["storages"], views)
        tensors = _tensors(members["tensors"], storages, views)
        found = {**storages, **tensors}
        return unpickle(members["pickle"].program, _NAMES, persistent=lambda key: found[_key(key)])


class _Member:
    """What a member holds: pickles, and numbers between them."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BytesIO(content)
        self.program = Program(self.file, len(content))

    def unpickle(self) -> Any:
        """The next object, which lies in no storage."""
        return unpickle(self.program, _NAMES)

    def count(self) -> int:
        """The next object, which says how many follow."""
        count = self.unpickle()
        if not isinstance(count, int):
            raise pickle.UnpicklingError("it does not say how many tensors it has")
        return count

    def bytes(self, size: int) -> bytes:
        """The next bytes."""
        if size < 0 or size > self.file.getbuffer().nbytes - self.file.tell():
            raise EOFError(f"{size} bytes are not there")
        return self.file.read(size)

    def integers(self, count: int) -> tuple[int, ...]:
        """The next numbers of 64 bits."""
        return struct.unpack(f"<{count}q", self.bytes(8 * count))


def _members(tar: tarfile.TarFile, size: int) -> dict[str, _Member]:
    """The three members that make up a checkpoint; `size` is the file's."""
    found: dict[str, _Member] = {}
    for place, member in enumerate(tar):
        if place >= _MOST_ENTRIES:
            raise pickle.UnpicklingError(f"it has more than {_MOST_ENTRIES} members")
        if member.name not in ("storages", "tensors", "pickle"):
            continue
        # A sparse member may claim any size; a plain one is no longer than the file, which reading it whole relies on.
        if not member.isreg() or member.issparse() or member.offset_data + member.size > size or member.name in found:
            raise pickle.UnpicklingError(f"member {member.name} is damaged")
        content = tar.extractfile(member)
        assert content is not None
        found[member.name] = _Member(content.read())
    return found


def _key(key: Any) -> int:
    """The key of a storage or tensor; modules with their source code, which are tuples, are refused."""
    if not isinstance(key, int | str) or not str(key).isdecimal() or len(str(key)) > 20:
        raise pickle.UnpicklingError("it asks for something that is no tensor")
    return int(key)


def _storages(member: _Member, views: Tensors) -> dict[int, Tensor]:
    """Flat tensors by key: storages, and views into them."""
    found: dict[int, Tensor] = {}
    for _ in range(member.count()):
        key, _device, dtype = member.unpickle()
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("a storage has no type")
        (count,) = member.integers(1)
        raw = member.bytes(count * dtype.itemsize)
        found[_key(key)] = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    for key, root, offset, count in member.unpickle() or ():
        found[_key(key)] = views.view(found[root], offset, (count,), (1,))
    return found


def _tensors(member: _Member, storages: dict[int, Tensor], views: Tensors) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    for _ in range(member.count()):
        key, storage, _type = member.unpickle()
        # The number of dimensions takes 8 bytes, of which 4 count.
        (dims,) = struct.unpack("<i4x", member.bytes(8))
        size, stride = member.integers(dims), member.integers(dims)
        (offset,) = member.integers(1)
        found[_key(key)] = views.view(storages[storage], offset, size, stride)
    return found
