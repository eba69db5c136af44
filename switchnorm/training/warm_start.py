"""Starting with somebody's weights, as far as they fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.weights import read_state


@dataclass(frozen=True)
class WarmStart:
    """What a network took from a checkpoint, and what it did not.

    Args:
        file: the checkpoint.
        matched: entries that were loaded.
        missing: entries of the network that the checkpoint lacks; they stay as they were initialised.
        unexpected: entries of the checkpoint that the network lacks.
        shapes: entries that both have in different shapes, as "key (theirs) for (ours)".
    """

    file: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    def __str__(self) -> str:
        text = f"warm start: {len(self.matched)} of {self.total} entries from {self.file}"
        kinds = (("missing there", self.missing), ("unknown here", self.unexpected), ("of another shape", self.shapes))
        return "; ".join([text, *(f"{len(keys)} {what} ({_some(keys)})" for what, keys in kinds if keys)])

    @property
    def total(self) -> int:
        """How many entries the network has."""
        return len(self.matched) + len(self.missing) + len(self.shapes)

    def record(self) -> dict[str, Any]:
        """The report as a run's record keeps it."""
        return {
            "file": self.file,
            "matched": len(self.matched),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "shapes": list(self.shapes),
        }


def warm_start(model: nn.Module, path: str | Path) -> WarmStart:
    """Load what fits of a checkpoint; entries fit by name and shape, the published layouts' shapes included.

    Args:
        model: the network.
        path: a file, as `switchnorm.weights.read_state` reads it.

    Returns:
        What was loaded and what was not.

    Raises:
        InputError: no readable checkpoint, or one of which nothing fits.
    """
    theirs = read_state(path)
    ours = model.state_dict()
    shared = [key for key in ours if key in theirs]
    fitting = [key for key in shared if _fits(theirs[key], ours[key])]
    # Counters and schedules alone are no start.
    if not any(ours[key].is_floating_point() and ours[key].numel() > 1 for key in fitting):
        raise InputError(_nothing(model, path, theirs, shared))
    _load(model, {key: theirs[key] for key in fitting}, ours)
    return WarmStart(
        str(path),
        matched=tuple(fitting),
        missing=tuple(key for key in ours if key not in theirs),
        unexpected=tuple(key for key in theirs if key not in ours),
        shapes=tuple(
            f"{key} {tuple(theirs[key].shape)} for {tuple(ours[key].shape)}" for key in shared if key not in fitting
        ),
    )


def _load(model: nn.Module, state: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    """Entries that are left out are loaded as they are, so that no layer takes their absence for an older layout."""
    with torch.no_grad():
        model.load_state_dict({**{key: value.clone() for key, value in before.items()}, **state})


def _fits(theirs: Tensor, ours: Tensor) -> bool:
    """The published layouts have their vectors as (1, C, 1, 1) and (1, C, 1)."""
    return theirs.shape == ours.shape or (ours.dim() == 1 and theirs.squeeze().shape == ours.squeeze().shape)


def _nothing(model: nn.Module, path: str | Path, theirs: Mapping[str, Tensor], shared: Iterable[str]) -> str:
    start = f"nothing of {str(path)!r} fits {type(model).__name__}"
    ours = model.state_dict()
    other = next((key for key in shared if ours[key].numel() > 1), None)
    if other is not None:
        return f"{start}: its {other} is {tuple(theirs[other].shape)}, expected {tuple(ours[other].shape)}"
    first = next(iter(ours))
    nearest = difflib.get_close_matches(first, theirs, n=1, cutoff=0) or list(theirs)[:1]
    return f"{start}: it has no {first!r}; the nearest name in it is {nearest[0]!r}"


def _some(keys: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")
