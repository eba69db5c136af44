"""Masks as they are read from files, one object after the other, made into `StoredMasks`."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from switchnorm.data.detection.masks import FARTHEST, STEPS, StoredMasks
from switchnorm.data.detection.ragged import Ragged, ends_of

Array = np.ndarray[Any, Any]

# Numbers of outlines that are kept as Python's before they become thousandths.
_BLOCK = 1 << 20


class MaskWriter:
    """Takes the masks of objects in their order.

    Attributes:
        boxes: the objects whose mask is their box, since they have none.
        short: outlines of fewer than three points, which are left out, and the object of the first.
    """

    def __init__(self) -> None:
        self.boxes: list[int] = []
        self.short: list[int] = []
        self._objects = 0
        self._numbers = array("d")
        self._blocks: list[Array] = []
        self._reaches: list[Array] = []
        self._kept = 0
        self._lengths, self._outlines, self._run_lengths = array("q"), array("q"), array("q")
        self._runs = bytearray()

    def add_outlines(self, outlines: Sequence[Sequence[float]], box: Sequence[float]) -> None:
        """Add an object by its outlines, x and y in turn, or by its box, x1, y1, x2, y2, where none is left.

        Raises:
            ValueError: what are no numbers, an odd count, or points beyond any picture.
        """
        taken = 0
        for outline in outlines:
            if not isinstance(outline, list | tuple):
                raise ValueError(f"an outline {outline!r:.40}; expected x and y in turn")
            if len(outline) % 2:
                raise ValueError(f"an outline of {len(outline)} numbers, which are no pairs")
            if len(outline) < 6:
                self.short.append(self._objects)
                continue
            try:
                self._numbers.extend(outline)
            except (TypeError, OverflowError):
                raise ValueError(f"an outline {outline!r:.40}; expected x and y in turn") from None
            self._lengths.append(len(outline))
            taken += 1
        if not taken:
            x1, y1, x2, y2 = box
            self._numbers.extend((x1, y1, x2, y1, x2, y2, x1, y2))
            self._lengths.append(8)
            self.boxes.append(self._objects)
            taken = 1
        self._outlines.append(taken)
        self._run_lengths.append(0)
        self._objects += 1
        if len(self._numbers) >= _BLOCK:
            self._keep()

    def add_runs(self, text: bytes) -> None:
        """Add an object by its compressed run lengths, which are known to be whole."""
        self._runs += text
        self._run_lengths.append(len(text))
        self._outlines.append(0)
        self._objects += 1

    def finish(self) -> StoredMasks | None:
        """All masks; None where every object had its box alone.

        Raises:
            ValueError: points beyond any picture.
        """
        if len(self.boxes) == self._objects:
            return None
        self._keep()
        points = np.empty(sum(map(len, self._blocks)), np.int32)
        end = len(points)
        while self._blocks:  # each is freed once it is copied
            block = self._blocks.pop()
            points[end - len(block) : end] = block
            end -= len(block)
        runs = torch.from_numpy(np.frombuffer(self._runs, np.uint8).copy())
        return StoredMasks(
            Ragged.of(torch.from_numpy(points), self._lengths),
            ends_of(self._outlines),
            Ragged.of(runs, self._run_lengths),
        )

    def reach(self) -> Array:
        """(N,): how far from the corner of the picture the outlines of each object go, in pixels; after `finish`."""
        counts, rings = np.array(self._outlines, np.int64), np.concatenate([*self._reaches, np.zeros(1)])
        found = (
            np.maximum.reduceat(rings, np.minimum(counts.cumsum() - counts, len(rings) - 1)) if len(counts) else counts
        )
        return np.where(counts, found, 0)

    def _keep(self) -> None:
        numbers = np.array(self._numbers)
        if not (np.abs(numbers) < FARTHEST).all():  # which NaN is not either
            raise ValueError(f"an outline has the number {numbers[~(np.abs(numbers) < FARTHEST)][0]:g}")
        if len(numbers):
            lengths = np.array(self._lengths[self._kept :], np.int64)
            self._reaches.append(np.maximum.reduceat(np.abs(numbers), lengths.cumsum() - lengths))
            self._blocks.append(np.rint(numbers * STEPS).astype(np.int32))
        self._numbers, self._kept = array("d"), len(self._lengths)
