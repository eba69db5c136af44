"""The formats of checkpoint files, told apart by their content: suffixes lie, most .pth.tar files are no tar files."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from switchnorm.errors import InputError
from switchnorm.weights.checksum import verify
from switchnorm.weights.inert import INERT
from switchnorm.weights.tar import read_tar

SAFETENSORS, ZIP, LEGACY, TAR = "safetensors", "torch zip", "torch legacy", "torch tar"


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
    if not path.is_file():
        raise InputError(
            f"checkpoint {str(path)!r} does not exist; expected a file that torch.save or safetensors wrote"
        )
    kind = _format(path)
    if kind == ZIP:
        verify(path)
    try:
        if kind == SAFETENSORS:
            with safe_open(path, "pt") as file:
                return Content({key: file.get_tensor(key) for key in file.keys()}, kind, file.metadata() or {})  # noqa: SIM118
        return Content(read_tar(path) if kind == TAR else _read_torch(path), kind)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"checkpoint {str(path)!r} is damaged, or would have to run code to be read; expected tensors by name"
        ) from error
    # A pickle is a program for a small machine; a damaged one can raise any exception.
    except Exception as error:
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


def _read_torch(path: Path) -> Any:
    with torch.serialization.safe_globals(INERT), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.simplefilter("ignore")  # an unusual pickle either loads or is refused in one line
        # The encoding is that of Python 2's strings, whose bytes may be anything.
        return torch.load(path, map_location="cpu", weights_only=True, encoding="latin1")
