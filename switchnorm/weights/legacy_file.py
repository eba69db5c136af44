"""The files that torch.save wrote before 1.6, read without running code from them.

Pickles, one after the other: a magic number, the version of the format, the machine, the object (with storages by
key), the keys of the storages in order. Then each storage: how many numbers, in eight bytes, and these.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from switchnorm.unpickling import Program, unpickle
from switchnorm.weights.tensors import VALUES, Tensors

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def read_legacy(path: Path) -> Any:
    """The object in a file that torch.save wrote before 1.6, its tensors on the CPU.

    Raises:
        pickle.UnpicklingError: it names anything but containers, numbers and tensors, or contradicts itself.
        EOFError, KeyError, ValueError, ...: it is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        program = Program(file, size)
        if unpickle(program, VALUES) != _MAGIC or unpickle(program, VALUES) != _VERSION:
            raise pickle.UnpicklingError("torch.save did not write it")
        machine = unpickle(program, VALUES)
        if not isinstance(machine, dict) or machine.get("little_endian") is False:
            raise pickle.UnpicklingError("it is from a machine that orders bytes otherwise")
        storages = _Storages(size)
        found = unpickle(program, Tensors(size).names, persistent=storages.find)
        storages.fill(file, unpickle(program, VALUES), size)
        return found


class _Storages:
    """Storages that the object names before their numbers come: memory for them, together no more than the file."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._found: dict[str, Tensor] = {}

    def find(self, described: Any) -> Tensor:
        """A storage, or what of it the object takes for one, (N,)."""
        kind, dtype, key, _location, count, *part = described
        if kind not in ("storage", b"storage") or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("it asks for something that is no storage")
        if key not in self._found:
            if type(count) is not int or count < 0 or count * dtype.itemsize > self._left:
                raise pickle.UnpicklingError(f"storage {key!r:.100} is larger than the file")
            self._left -= count * dtype.itemsize
            self._found[key] = torch.empty(count, dtype=dtype)
        flat = self._found[key]
        if flat.dtype != dtype or flat.numel() != count:
            raise pickle.UnpicklingError(f"storage {key!r:.100} has two types or lengths")
        if not part or part[0] is None:
            return flat
        _key, begin, length = part[0]
        if not all(type(n) is int and n >= 0 for n in (begin, length)) or begin + length > count:
            raise pickle.UnpicklingError(f"a view lies outside of storage {key!r:.100}")
        return flat[begin : begin + length]

    def fill(self, file: BinaryIO, keys: Any, size: int) -> None:
        """Read the numbers of all storages."""
        if not isinstance(keys, list) or len(set(map(str, keys))) != len(keys) or set(keys) != self._found.keys():
            raise pickle.UnpicklingError("its storages are not those that its tensors lie in")
        for key in keys:
            flat = self._found[key]
            (count,) = struct.unpack("<q", file.read(8))
            if count != flat.numel():
                raise pickle.UnpicklingError(f"storage {key!r:.100} has another length than its tensors say")
            buffer = flat.view(torch.uint8).numpy().data if count else memoryview(b"")
            if count and file.readinto(buffer) != flat.nbytes:  # type: ignore[attr-defined]
                raise EOFError(f"storage {key!r:.100} ends before its end")
