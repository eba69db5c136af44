"""What many samples of a split come to, in memory that hardly grows with their number."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from switchnorm.data.files.surveyed import Facts
from switchnorm.data.segmentation.labels import IGNORED

#: Samples that are named of each kind of remark.
_NAMED = 3


@dataclass
class Tally:
    """How many samples one remark is about, and the first of them with details."""

    count: int = 0
    wrong: bool = False
    first: list[tuple[int, str]] = field(default_factory=list)


class Summary:
    """What the samples of a split come to.

    Args:
        name: of the split.
        total: samples of it, of which some or all are added.
        unit: as `Surveyed`.
        targets: as `Surveyed`.
    """

    def __init__(self, name: str, total: int, unit: str = "pictures", targets: str = "labels") -> None:
        self.name, self.total, self.unit, self.targets = name, total, unit, targets
        self.looked = 0
        #: How much of each label there is, `IGNORED` of masks for what does not count; and samples that have any.
        self.counts: Counter[int] = Counter()
        self.having: Counter[int] = Counter()
        self.remarks: dict[str, Tally] = {}
        #: Files by (format, mode, bits), and by EXIF's orientation.
        self.kinds: Counter[tuple[str, str, int]] = Counter()
        self.orientations: Counter[int] = Counter()
        self.range: tuple[float, float] | None = None
        self._pixels = 0
        self._sums: np.ndarray[Any, Any] | None = None
        self._squares: np.ndarray[Any, Any] | None = None
        self._indices, self._digests, self._targets, self._sizes = (array("q") for _ in range(4))

    def add(self, index: int, facts: Facts) -> None:
        """Add a sample."""
        self.looked += 1
        for kind, detail, wrong in facts.remarks:
            tally = self.remarks.setdefault(kind, Tally())
            tally.count += 1
            tally.wrong |= wrong
            if len(tally.first) < _NAMED:
                tally.first.append((index, detail))
        if facts.format or facts.mode:
            self.kinds[facts.format, facts.mode, facts.bits] += 1
            self.orientations[facts.orientation] += 1
        if facts.range is not None and not any(map(math.isnan, facts.range)):
            low, high = self.range or facts.range
            self.range = min(low, facts.range[0]), max(high, facts.range[1])
        self.counts.update(facts.counts)
        self.having.update(label for label, count in facts.counts.items() if count)
        if facts.digest >= 0:
            self._indices.append(index)
            self._digests.append(facts.digest)
            self._targets.append(facts.target)
        if facts.size is not None:
            self._sizes.extend(facts.size)
        self._add_values(facts)

    def _add_values(self, facts: Facts) -> None:
        if not facts.pixels:
            return
        sums, squares = np.array(facts.sums, np.float64), np.array(facts.squares, np.float64)
        if self._sums is None or self._squares is None:
            self._sums, self._squares = np.zeros_like(sums), np.zeros_like(squares)
        if len(sums) == len(self._sums):
            self._pixels += facts.pixels
            self._sums += sums
            self._squares += squares

    @property
    def complete(self) -> bool:
        """Whether all samples of the split were added."""
        return self.looked >= self.total

    @property
    def void(self) -> int:
        """Pixels that do not count."""
        return self.counts[IGNORED] if self.unit == "pixels" else 0

    @property
    def counted(self) -> int:
        """All that counts."""
        return self.counts.total() - self.void

    @property
    def sizes(self) -> np.ndarray[Any, Any]:
        """(n, 2) height and width of those that could be read."""
        return np.frombuffer(self._sizes, np.int64).reshape(-1, 2) if self._sizes else np.empty((0, 2), np.int64)

    @property
    def contents(self) -> np.ndarray[Any, Any]:
        """(n, 3): the index of each sample that has content, digests of that and of its target."""
        columns = (self._indices, self._digests, self._targets)
        return np.stack([np.array(column, np.int64) for column in columns], 1).reshape(-1, 3)

    @property
    def mean(self) -> list[float]:
        """Of each channel's values over all pixels; [] where none were read."""
        return [] if self._sums is None else (self._sums / self._pixels).tolist()

    @property
    def std(self) -> list[float]:
        """Their deviation."""
        if self._sums is None or self._squares is None:
            return []
        mean = self._sums / self._pixels
        return np.sqrt(np.maximum(self._squares / self._pixels - mean**2, 0)).tolist()
