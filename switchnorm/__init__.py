"""Switch the normalization of any PyTorch vision model, train it at any batch geometry, see what every layer chose."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "layers": (
        *("SwitchNorm1d", "SwitchNorm2d", "SwitchNorm3d"),
        *("SparseSwitchNorm1d", "SparseSwitchNorm2d", "SparseSwitchNorm3d"),
        *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"),
        "GroupNorm",
        *("InstanceBatchNorm1d", "InstanceBatchNorm2d", "InstanceBatchNorm3d"),
        *("BatchChannelNorm1d", "BatchChannelNorm2d", "BatchChannelNorm3d"),
        *("WSConv1d", "WSConv2d", "WSConv3d"),
    ),
    "surgery": (
        *("switch", "plan_switch", "SwitchWarning", "fuse", "plan_fuse", "fold", "plan_fold"),
        *("ghost", "sync"),
        *("calibrate", "set_momentum", "harden", "unharden", "set_radius", "importance"),
    ),
    "optim": ("parameter_groups", "SparseSchedule"),
    "models": ("create_model", "list_models"),
    "weights": ("load_published",),
    "deploy.load": ("load",),
    "deploy.push": ("push",),
    "deploy.exporting": ("export",),
    "deploy.exported": ("Exported", "ExportWarning"),
    "errors": ("InputError",),
}
_HOME_OF = {name: room for room, names in _HOMES.items() for name in names}
_ROOMS = (
    *("config", "data", "deploy", "errors", "layers", "models", "ops", "optim"),
    *("report", "runs", "studies", "surgery", "tasks", "training", "weights"),
)

__all__ = ["__version__", "ops", *_HOME_OF]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `switchnorm --help` need not wait for torch."""
    if name not in _HOME_OF and name not in _ROOMS:
        raise AttributeError(f"module 'switchnorm' has no attribute {name!r}")
    try:
        home = importlib.import_module(f"switchnorm.{_HOME_OF.get(name, name)}")
    except ModuleNotFoundError as error:
        from switchnorm.errors import OF_TRAIN, not_installed

        if error.name not in OF_TRAIN:
            raise
        raise not_installed((error.name,), f"switchnorm.{name}") from error
    return getattr(home, name) if name in _HOME_OF else home


def __dir__() -> list[str]:
    return sorted(__all__)
