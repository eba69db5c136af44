"""Checkpoint files as different writers wrote them, small enough to be made in a test."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"


class Attack:
    """An object whose file makes a folder when it is unpickled carelessly."""

    def __reduce__(self):
        return os.mkdir, ("attacked",)


def recorded_state(network: str) -> dict[str, Tensor]:
    """Random numbers under the published keys of a network."""
    state = {}
    for key, (shape, dtype) in json.loads((GOLDEN / f"{network}.keys.json").read_text()).items():
        kind = getattr(torch, dtype)
        state[key] = torch.randint(0, 2, shape, dtype=kind) if dtype == "int64" else torch.rand(shape, dtype=kind)
    return state


def write_zip(value: Any, path: Path) -> None:
    torch.save(value, path)


def write_legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def write_tar(value: Any, path: Path, **members: bytes) -> None:
    """The layout of torch 0.1; `members` replace those that `value` gives."""
    tensors = _tensors(value)
    written = {
        "sys_info": pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2),
        "pickle": _pickled(value, tensors),
        "storages": storages_member(tensors),
        "tensors": tensors_member(tensors),
        **members,
    }
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, content in written.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def storages_member(tensors: list[Tensor], device: str = "cpu", module: str = "torch") -> bytes:
    """All storages; each tensor has its own, whose key is its number."""
    content = pickle.dumps(len(tensors), 2)
    for number, tensor in enumerate(tensors):
        kind = STORAGES[tensor.dtype]
        content += triple(number, device, (module, kind))
        content += struct.pack("<q", tensor.numel()) + tensor.contiguous().numpy().tobytes()
    return content + pickle.dumps([], 2)


def tensors_member(tensors: list[Tensor]) -> bytes:
    content = pickle.dumps(len(tensors), 2)
    for number, tensor in enumerate(tensors):
        flat = tensor.contiguous()
        kind = STORAGES[tensor.dtype].replace("Storage", "Tensor")
        content += triple(1000 + number, number, ("torch", kind)) + layout(flat.shape, flat.stride(), 0)
    return content


def layout(shape, stride, offset: int) -> bytes:
    dims = len(shape)
    return struct.pack(f"<i4x{2 * dims + 1}q", dims, *shape, *stride, offset)


def triple(key: Any, second: Any, name: tuple[str, str]) -> bytes:
    """The pickle of (key, second, the class of that name)."""
    parts = b"".join(pickle.dumps(part, 2)[2:-1] for part in (key, second))
    return b"\x80\x02(" + parts + f"c{name[0]}\n{name[1]}\n".encode() + b"t."


STORAGES = {
    torch.float32: "FloatStorage",
    torch.float64: "DoubleStorage",
    torch.float16: "HalfStorage",
    torch.int64: "LongStorage",
    torch.uint8: "ByteStorage",
}


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value.values() for t in _tensors(item)] if isinstance(value, Mapping) else []


def _pickled(value: Any, tensors: list[Tensor]) -> bytes:
    keys = {id(tensor): str(1000 + number) for number, tensor in enumerate(tensors)}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> str | None:
            return keys.get(id(item)) if isinstance(item, Tensor) else None

    target = io.BytesIO()
    Pickler(target, 2).dump(OrderedDict(value) if isinstance(value, dict) else value)
    return target.getvalue()


WRITERS = {"torch zip": write_zip, "torch legacy": write_legacy, "torch tar": write_tar}
