"""Sequences of different lengths, end to end in one tensor, which worker processes share instead of copying."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def ends_of(lengths: Iterable[int]) -> Tensor:
    """(N + 1,) int64: 0, and where each of N rows ends."""
    counts = torch.from_numpy(np.fromiter(lengths, np.int64))
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


# Rows that are copied at once.
_BLOCK = 1 << 15


class Ragged(NamedTuple):
    """Rows of different lengths.

    Args:
        values: (V,) of all rows.
        ends: (N + 1,) int64: row i is values[ends[i]:ends[i + 1]].
    """

    values: Tensor
    ends: Tensor

    @classmethod
    def of(cls, values: Tensor, lengths: Iterable[int]) -> Ragged:
        """Rows of these lengths, one after the other."""
        return cls(values, ends_of(lengths))

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.ends) - 1

    @property
    def lengths(self) -> Tensor:
        """(N,) int64."""
        return self.ends.diff()

    def row(self, place: int) -> Tensor:
        """One row."""
        start, end = self.ends[place : place + 2].tolist()
        return self.values[start:end]

    def taken(self, places: Tensor) -> Ragged:
        """These rows, (M,) int64, in this order."""
        lengths = self.lengths[places]
        ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shifts = self.ends[:-1][places] - ends[:-1]
        values = self.values.new_empty(int(ends[-1]))
        for first in range(0, len(places), _BLOCK):  # the places of all values at once would take twice their memory
            rows = slice(first, first + _BLOCK)
            start, end = int(ends[first]), int(ends[min(first + _BLOCK, len(places))])
            values[start:end] = self.values[
                torch.arange(start, end) + shifts[rows].repeat_interleave(lengths[rows], output_size=end - start)
            ]
        return Ragged(values, ends)
