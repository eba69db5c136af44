"""How a printed network shows the arguments of a layer."""

from __future__ import annotations

from torch import nn

#: What normalizers do unless told otherwise.
_DEFAULTS = {
    "affine": True,
    "track_running_stats": True,
    "ghost": None,
    "sync": False,
    "activation": None,
    "tied": False,
}


def changed_arguments(layer: nn.Module, *names: str) -> str:
    """The end of a layer's `extra_repr`: ", name=value" for each of the arguments that is not its default."""
    values = {name: getattr(layer, name) for name in names}
    if "sync" in values:
        values["sync"] = values["sync"] is not False  # a group of processes says nothing to a reader
    return "".join(f", {name}={value!r}" for name, value in values.items() if value != _DEFAULTS[name])
