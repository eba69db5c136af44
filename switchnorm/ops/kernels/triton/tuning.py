"""What was measured on a device about the best cuts: a table for each, `tuned/NAME.json`, NAME as torch says it.

    {"device": "NVIDIA H200",
     "measured": "2026-11-29, torch 2.11.0, triton 3.6.0",
     "tunings": [{"channels_last": true, "itemsize": 2, "size": 64,
                  "elements": 4096, "row": 32, "warps": 4, "programs": 4, "stages": 3}, ...]}

An entry holds for maps of up to `size` elements, null for all; of those that hold, the one with the smallest size does.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from switchnorm.errors import InputError
from switchnorm.ops.kernels.triton.cut import Shape, Tuning
from switchnorm.ops.kernels.triton.device import Device

#: Where tables are.
FOLDER = Path(__file__).parent / "tuned"

#: The least and the most of a tuning's numbers; all but programs and stages are powers of two.
_LIMITS = {
    "elements": (128, 1 << 16),
    "row": (1, 1 << 14),
    "warps": (1, 16),
    "programs": (1, 32),
    "stages": (1, 8),
}


class Class(NamedTuple):
    """The shapes for which a tuning holds: layout, bytes per element, and the longest map; None for any."""

    channels_last: bool
    itemsize: int
    size: int | None


def tuning_for(shape: Shape, device: Device) -> Tuning | None:
    """What the device's table says about a shape; None where there is none, or it says nothing."""
    holding = [
        (math.inf if found.size is None else found.size, tuning)
        for found, tuning in table(device.name).items()
        if found[:2] == (shape.channels_last, shape.itemsize) and (found.size is None or shape.size <= found.size)
    ]
    return min(holding)[1] if holding else None


def path_of(device: str) -> Path:
    """The file of a device's table."""
    return FOLDER / (re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json")


@functools.cache
def table(device: str) -> dict[Class, Tuning]:
    """The table of a device, by its name; empty where there is none.

    Raises:
        InputError: it cannot be used.
    """
    path = path_of(device)
    if not path.exists():
        return {}
    try:
        written = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(written, dict) or set(written) != {"device", "measured", "tunings"}:
        raise InputError(f"{path.name} must hold device, measured and tunings, no more")
    if written["device"] != device:
        raise InputError(f"{path.name} is for {written['device']!r}, not {device!r}")
    if not isinstance(written["tunings"], list):
        raise InputError(f"{path.name}: tunings must be a list")
    found: dict[Class, Tuning] = {}
    for place, entry in enumerate(written["tunings"], 1):
        what, tuning = _read(f"{path.name}, tuning {place}", entry)
        if what in found:
            raise InputError(f"{path.name}, tuning {place}: there is one for the same shapes before it")
        found[what] = tuning
    return found


def write(path: Path, device: str, measured: str, tunings: Mapping[Class, Tuning]) -> None:
    """Write a table: of `device`, by what was `measured` when and with which versions."""
    entries = [{**what._asdict(), **tuning._asdict()} for what, tuning in tunings.items()]
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    head = f'"device": {json.dumps(device)},\n "measured": {json.dumps(measured)}'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{{head},\n "tunings": [\n  {lines}]}}\n', encoding="utf-8")


def _read(where: str, entry: Any) -> tuple[Class, Tuning]:
    names = (*Class._fields, *Tuning._fields)
    if not isinstance(entry, dict) or set(entry) != set(names):
        raise InputError(f"{where} must hold {', '.join(names)}, no more")
    what = Class(*(entry[name] for name in Class._fields))
    if not isinstance(what.channels_last, bool):
        raise InputError(f"{where}: channels_last must be true or false, got {what.channels_last!r}")
    if what.itemsize not in (2, 4, 8) or isinstance(what.itemsize, float):
        raise InputError(f"{where}: itemsize must be 2, 4 or 8, got {what.itemsize!r}")
    if what.size is not None and not _whole(what.size, 1, 1 << 40):
        raise InputError(f"{where}: size must be a whole number from 1 or null, got {what.size!r}")
    for name, (least, most) in _LIMITS.items():
        if not _whole(entry[name], least, most):
            raise InputError(f"{where}: {name} must be a whole number from {least} to {most}, got {entry[name]!r}")
        if name not in ("programs", "stages") and entry[name] & (entry[name] - 1):
            raise InputError(f"{where}: {name} must be a power of two, got {entry[name]}")
    return what, Tuning(*(entry[name] for name in Tuning._fields))


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
