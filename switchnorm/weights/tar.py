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
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from switchnorm.weights.inert import INERT, latin1_bytes

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, name): dtype for module in ("torch", "torch.cuda") for name, dtype in _DTYPES.items()},
    **{
        (module, name.replace("Storage", "Tensor")): dtype
        for module in ("torch", "torch.cuda")
        for name, dtype in _DTYPES.items()
    },
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): latin1_bytes,
    **{tuple(name.rsplit(".", 1)): stand_in for stand_in, name in INERT},  # type: ignore[misc]
}


def read_tar(path: Path) -> Any:
    """The object in a tar file of torch 0.1, its tensors on the CPU.

    Raises:
        pickle.UnpicklingError: it names anything but containers, numbers and tensors, or contradicts itself.
        tarfile.TarError, KeyError, EOFError, ...: it is damaged, or no such file.
    """
    with tarfile.open(path, "r:") as tar:
        storages = _storages(_member(tar, "storages", path))
        tensors = _tensors(_member(tar, "tensors", path), storages)
        return _load(_member(tar, "pickle", path), {**storages, **tensors})


# Python's implementation, not that in C, which allocates as many memo entries as a file claims to have.
class _Unpickler(pickle._Unpickler):
    """Knows containers, numbers, types of storages and tensors, and what is handed to it by key."""

    def __init__(self, file: io.BytesIO, known: dict[int, Tensor]) -> None:
        super().__init__(file, encoding="latin1")
        self.known = known

    def find_class(self, module: str, name: str) -> Any:
        """One of the few allowed types, and nothing imported."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return _ALLOWED[module, name]

    def persistent_load(self, key: Any) -> Tensor:
        """A storage or tensor that was read before; modules with their source code, which are tuples, are refused."""
        if not isinstance(key, int | str) or not str(key).isdecimal():
            raise pickle.UnpicklingError(f"{key!r} is no key of a tensor")
        return self.known[int(key)]


def _member(tar: tarfile.TarFile, name: str, path: Path) -> io.BytesIO:
    member = tar.getmember(name)
    # A sparse member may claim any size; a plain one is no longer than the file, which reading it whole relies on.
    if not member.isreg() or member.issparse() or member.offset_data + member.size > path.stat().st_size:
        raise pickle.UnpicklingError(f"member {name} is damaged")
    content = tar.extractfile(member)
    assert content is not None
    return io.BytesIO(content.read())


def _load(file: io.BytesIO, known: dict[int, Tensor]) -> Any:
    return _Unpickler(file, known).load()


def _count(file: io.BytesIO) -> int:
    count = _load(file, {})
    if not isinstance(count, int):
        raise pickle.UnpicklingError(f"{count!r} is no count")
    return count


def _bytes(file: io.BytesIO, size: int) -> bytes:
    if size < 0 or size > file.getbuffer().nbytes - file.tell():
        raise EOFError(f"{size} bytes are not there")
    return file.read(size)


def _integers(file: io.BytesIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}q", _bytes(file, 8 * count))


def _storages(file: io.BytesIO) -> dict[int, Tensor]:
    """Flat tensors by key: storages, and views into them."""
    found: dict[int, Tensor] = {}
    for _ in range(_count(file)):
        key, _device, dtype = _load(file, {})
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"{dtype!r} is no type of a storage")
        (count,) = _integers(file, 1)
        raw = _bytes(file, count * dtype.itemsize)
        found[int(key)] = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    for key, root, offset, count in _load(file, {}) or ():
        found[int(key)] = _view(found[root], (count,), (1,), offset)
    return found


def _tensors(file: io.BytesIO, storages: dict[int, Tensor]) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    for _ in range(_count(file)):
        key, storage, _type = _load(file, {})
        # The number of dimensions takes 8 bytes, of which 4 count.
        (dims,) = struct.unpack("<i4x", _bytes(file, 8))
        size, stride = _integers(file, dims), _integers(file, dims)
        (offset,) = _integers(file, 1)
        found[int(key)] = _view(storages[storage], size, stride, offset)
    return found


def _view(flat: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    """A view that lies within `flat` and is no larger."""
    if offset < 0 or any(n < 0 for n in (*size, *stride)):
        raise pickle.UnpicklingError("a tensor has negative sizes")
    count = 1
    for n in size:
        count *= n
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= flat.numel() or count > flat.numel()):
        raise pickle.UnpicklingError("a tensor is larger than its storage")
    # as_strided counts its offset from the start of the storage; `flat` may begin later in it.
    return flat.as_strided(size, stride, flat.storage_offset() + offset) if count else flat.new_empty(size)
