"""The formats of checkpoint files, told apart by their content: suffixes lie, most .pth.tar files are no tar files."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from switchnorm.errors import InputError
from switchnorm.weights.checksum import verify
from switchnorm.weights.legacy_file import read_legacy
from switchnorm.weights.tar_file import read_tar
from switchnorm.weights.zip_file import read_zip

SAFETENSORS, ZIP, LEGACY, TAR = "safetensors", "torch zip", "torch legacy", "torch tar"
_READERS: Mapping[str, Callable[[Path], Any]] = {ZIP: read_zip, LEGACY: read_legacy, TAR: read_tar}
# Of safetensors, in bytes; Python makes objects of it about ten times as large. 50,000 tensors take 7 MB.
_LARGEST_HEADER = 8 << 20


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        value: the object that was saved; of a safetensors file, tensors by key.
        format: "safetensors", "torch zip", "torch legacy" (before torch 1.6) or "torch tar" (torch 0.1).
        metadata: of a safetensors file.
    """

    value: Any
    format: str
    metadata: dict[str, str] = field(default_factory=dict)


def read_content(path: Path) -> Content:
    """Read a file of any format, on the CPU, without running code from it.

    Raises:
        InputError: no such file, a damaged one, or one that would have to run code to be read.
    """
    if path.is_dir():
        best = path / "checkpoints" / "best.ckpt"
        inside = f"; the nearest is {str(best)!r}" if best.is_file() else ""
        raise InputError(
            f"checkpoint {str(path)!r} is a folder; expected a file that torch.save or safetensors wrote{inside}"
        )
    if not path.is_file():
        # What a shell's <(...) gives can be read once and not searched, as a checkpoint has to be.
        fault = "is a pipe or a device" if path.exists() else "does not exist"
        raise InputError(f"checkpoint {str(path)!r} {fault}; expected a file that torch.save or safetensors wrote")
    kind = _format(path)
    if kind == ZIP:
        verify(path)
    try:
        return _read_safetensors(path) if kind == SAFETENSORS else Content(_READERS[kind](path), kind)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"checkpoint {str(path)!r} is damaged, or would have to run code to be read: {error}; "
            "expected tensors by name"
        ) from error
    # A damaged pickle can raise any exception, and what safetensors raises in a panic is no Exception.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise InputError(f"checkpoint {str(path)!r} is damaged or no checkpoint; expected tensors by name") from error


def _format(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"PK\x03\x04"):
        return ZIP
    if start[257:262] == b"ustar":
        return TAR
    # A safetensors file begins with the length of its header, in eight bytes, and the header, in JSON.
    return SAFETENSORS if start[8:9] == b"{" or path.suffix == ".safetensors" else LEGACY


def _read_safetensors(path: Path) -> Content:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _LARGEST_HEADER:
        raise pickle.UnpicklingError("it has more entries than any checkpoint")
    with safe_open(path, "pt") as file:
        return Content({key: file.get_tensor(key) for key in file.keys()}, SAFETENSORS, file.metadata() or {})  # noqa: SIM118
