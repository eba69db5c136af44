"""Networks on their way out: files that other runtimes run, what such files say of themselves, and running them.

Nothing here imports torch before it must: a file of ONNX or OpenVINO is run where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {"exporting": ("export", "Exported", "ExportWarning")}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    """Import on first use, since only exporting needs torch."""
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
