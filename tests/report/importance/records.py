"""Layers as `switchnorm.importance(model)` gives them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """The importance of one layer of a live model."""

    layer: str
    statistics: tuple[str, ...]
    mean: tuple[float, ...]
    var: tuple[float, ...]
    frozen: bool = False


MIXED = Record("conv1.norm", ("instance", "layer", "batch"), (0.2, 0.3, 0.5), (0.6, 0.3, 0.1))
HARD = Record("conv2.norm", ("instance", "layer", "batch"), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
HALF = Record("conv3.norm", ("instance", "layer", "batch"), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0))
FLAT = Record("head.norm", ("layer", "batch"), (0.4, 0.6), (0.7, 0.3))
FROZEN = Record("conv4.norm", ("instance", "layer", "batch"), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), frozen=True)
