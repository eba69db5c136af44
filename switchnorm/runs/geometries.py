"""Batch geometries as the papers write them; needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from switchnorm.errors import InputError


@dataclass(frozen=True)
class Geometry:
    """So many GPUs with so many samples each, without synchronisation: (8, 2) is a batch of 16 in groups of 2."""

    gpus: int
    samples: int

    @classmethod
    def parse(cls, text: str) -> Geometry:
        """Read "8x2"; raise `InputError` for anything else."""
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
        if match is None:
            raise InputError(f"geometry {text!r} is none; expected GPUs x samples per GPU, such as 8x2 or 1x16")
        return cls(int(match[1]), int(match[2]))

    @property
    def batch(self) -> int:
        """Samples per step."""
        return self.gpus * self.samples

    @property
    def title(self) -> str:
        """As the papers write it: "(8, 2)", with a no-break space."""
        return f"({self.gpus},\u00a0{self.samples})"

    @property
    def order(self) -> tuple[int, int]:
        """Sorts as the papers' columns: many GPUs first, then many samples."""
        return -self.gpus, -self.samples

    def __str__(self) -> str:
        return f"{self.gpus}x{self.samples}"


@dataclass(frozen=True)
class Absent:
    """A training that was meant for a table and has left no result.

    Args:
        norm: as configurations spell it.
        geometry: of its batches.
        seed: of the run.
        reason: why it failed; empty while it is still to come.
        statistics: what its layers were to mix, where that is not the normalizer's own choice.
    """

    norm: str
    geometry: Geometry
    seed: Any
    reason: str = ""
    statistics: tuple[str, ...] = ()
