"""Where a number comes from: versions, hardware, revision."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import switchnorm


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = ("torch", "torchvision", "pytorch-lightning", "torchmetrics")
    own = {"python": platform.python_version(), "switchnorm": switchnorm.__version__}  # it may run from its sources
    return {**own, **{name: metadata.version(name) for name in packages}}


def hardware() -> dict[str, object]:
    """Processor, cores and, where there are any, GPUs."""
    found: dict[str, object] = {"cpu": _cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


def git_revision() -> str | None:
    """The commit of the source tree that this package runs from, "+" behind it if changed; None outside git."""
    here = Path(__file__).parent
    try:
        revision = _git(here, "rev-parse", "HEAD")
        tracked = _git(here, "ls-files", "--", str(Path(__file__)))
        return revision + ("+" if _git(here, "status", "--porcelain", "--", "..") else "") if tracked else None
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *command: str) -> str:
    result = subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True, text=True)
    return result.stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
