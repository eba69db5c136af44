"""What the device is, for the head of every record."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import metadata
from typing import Any

import torch

_ASKED = ("name", "driver_version", "clocks.max.sm", "power.limit")


def describe(device: str) -> dict[str, Any]:
    """Name, size and versions; it begins to use CUDA, so that a process of its own asks."""
    versions = {"triton": metadata.version("triton"), "cuda": torch.version.cuda, "numpy": metadata.version("numpy")}
    if device == "cpu":
        return {"name": "rehearsal", **versions}
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_bytes": found.total_memory,
        "l2_bytes": found.L2_cache_size,
        **versions,
        "cudnn": torch.backends.cudnn.version(),
        **_by_tool(),
    }


def slug(name: str) -> str:
    """A name as a folder has it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _by_tool() -> dict[str, str]:
    """What only nvidia-smi tells, where it is there."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader", "--id=0"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    return dict(zip(_ASKED[1:], (each.strip() for each in told.split(",")[1:]), strict=False))
