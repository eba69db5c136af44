"""What of every batch a process gets, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from switchnorm.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Share:
    """One process's part of every batch; the whole, on the CPU, by default.

    Args:
        rank: this process, 0 <= rank < world.
        world: number of processes.
        device: where the batches are wanted.

    Raises:
        InputError: no such rank.
    """

    rank: int = 0
    world: int = 1
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise InputError(
                f"rank {self.rank} is not one of {self.world} processes; ranks run from 0 to {self.world - 1}"
            )

    def of(self, start: int, size: int) -> slice:
        """This process's places of `size` from `start` on: contiguous, and at most one more than any other's."""
        return slice(start + size * self.rank // self.world, start + size * (self.rank + 1) // self.world)
