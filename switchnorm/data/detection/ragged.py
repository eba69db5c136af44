"""Sequences of different lengths, end to end in one tensor, which worker processes share instead of copying."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


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
        return cls(values, torch.tensor([0, *lengths]).cumsum(0))

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
        shifts = (self.ends[:-1][places] - ends[:-1]).repeat_interleave(lengths)
        return Ragged(self.values[torch.arange(len(shifts)) + shifts], ends)
