"""What every loader has in common: which samples a batch holds, which of them are this process's, and its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from switchnorm.data.counter import permutation
from switchnorm.errors import InputError

#: Images (N, C, H, W), or (N, V, C, H, W) with several views of each, and labels (N,) int64.
Batch = tuple[Tensor, Tensor]


class Loader(ABC):
    """Every sample once, in the stored order. Each iteration starts at the first batch.

    Every process sees the same number of batches, and a contiguous share of each. Shares differ by one sample at most,
    and no sample is repeated or lost; so when the last batch holds fewer samples than there are processes, some of its
    shares are empty.

    Args:
        total: number of samples.
        batch_size: samples per batch, all processes together; the last batch may hold fewer.
        rank: this process, 0 <= rank < world.
        world: number of processes.

    Raises:
        InputError: fewer samples per batch than processes, or no such rank.
    """

    def __init__(self, total: int, *, batch_size: int, rank: int, world: int) -> None:
        if not 0 <= rank < world:
            raise InputError(f"rank {rank} is not one of {world} processes; ranks run from 0 to {world - 1}")
        if batch_size < world:
            raise InputError(f"batch size {batch_size} is smaller than the number of processes, {world}")
        self.total = total
        self.batch_size = batch_size
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return -(-self.total // self.batch_size)

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Make the batches: a `Batch` each, or what the task calls one."""

    def _share(self, position: int) -> slice:
        """This process's part of the batch at `position`, as places in the order of the epoch."""
        start = position * self.batch_size
        size = min(self.batch_size, self.total - start)
        return slice(start + size * self.rank // self.world, start + size * (self.rank + 1) // self.world)


class TrainingLoader(Loader):
    """Full batches in an order that is new in every pass over the data.

    Passes follow one another endlessly, and an epoch is a window of `steps` batches in that sequence: its batch at
    `position` is number epoch * steps + position of all. Which samples a batch holds is a function of the seed and of
    that number, and not of the number of processes.

    The loader's whole state is (epoch, position), where position counts the batches handed out in this epoch. Iteration
    continues there, and starts the next epoch when position has reached the end. It cannot do so at the end itself:
    Lightning knows the length and never asks for the batch after the last.

    Args:
        total: number of samples.
        batch_size: samples per batch, all processes together; samples that fill no batch wait for another pass.
        seed: determines the order.
        steps: batches of an epoch; None is one pass.
        rank: this process, 0 <= rank < world.
        world: number of processes.

    Raises:
        InputError: fewer samples than a batch holds, a batch that the processes cannot share evenly, or no steps.
    """

    def __init__(
        self, total: int, *, batch_size: int, seed: int, steps: int | None = None, rank: int, world: int
    ) -> None:
        super().__init__(total, batch_size=batch_size, rank=rank, world=world)
        if total < batch_size:
            raise InputError(f"batch size {batch_size} is larger than the training set, {total} images")
        if batch_size % world:
            raise InputError(f"batch size {batch_size} cannot be shared evenly by {world} processes")
        if steps is not None and steps < 1:
            raise InputError(f"steps must be at least 1, or none for a whole pass, got {steps}")
        self.seed = seed
        self.batches_per_pass = total // batch_size
        self.steps = self.batches_per_pass if steps is None else steps
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
        for batch in self._batches(self.position):
            self.position += 1  # before the batch is used: a checkpoint written after it must not repeat it
            yield batch

    @abstractmethod
    def _batches(self, position: int) -> Iterator[Batch]:
        """The batches of the epoch from `position` on."""

    def _indices(self, position: int, device: torch.device | str = "cpu") -> Iterator[tuple[int, Tensor]]:
        """For each batch of the epoch from `position` on: its pass, and this process's samples, (n,) int64."""
        for turn, place, order in self._turns(position, device):
            yield turn, order[self._share(place)]

    def _turns(self, position: int, device: torch.device | str = "cpu") -> Iterator[tuple[int, int, Tensor]]:
        """For each batch of the epoch from `position` on: its pass, its place in there, and the order of that pass."""
        current = -1
        for turn, place in (self._turn(position) for position in range(position, len(self))):
            if turn != current:
                current, order = turn, self._order(turn, device)
            yield turn, place, order

    def _turn(self, position: int) -> tuple[int, int]:
        """The pass to which the epoch's batch at `position` belongs, and the batch's place in there."""
        return divmod(self.epoch * len(self) + position, self.batches_per_pass)

    def _order(self, turn: int, device: torch.device | str) -> Tensor:
        """The samples in the order of a pass: (n,) int64 on `device`; batches are cut from it one after the other."""
        return permutation(self.seed, turn, self.total, device)

    def state_dict(self) -> dict[str, int]:
        """The place in the run: the epoch, and the number of its batches already handed out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was taken: the next iteration starts with the batch after it.

        Raises:
            InputError: a position that an epoch of this loader does not reach.
        """
        if not 0 <= state["position"] <= len(self):
            raise InputError(
                f"cannot continue after {state['position']} batches of an epoch of {len(self)}; "
                "continue with the batch size and data that the run started with"
            )
        self.epoch, self.position = state["epoch"], state["position"]


class Normalization:
    """(pixel - mean) / std per channel, on one device.

    Args:
        mean: C numbers that are subtracted, in units of the pixels.
        std: C numbers that divide.
        device: where the images are.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device | str = "cpu") -> None:
        deviation = torch.tensor(std, device=device).view(-1, 1, 1)
        self._scale = 1 / deviation
        self._shift = -torch.tensor(mean, device=device).view(-1, 1, 1) / deviation

    def __call__(self, images: Tensor) -> Tensor:
        """Images (..., C, H, W) of any dtype as new float32 ones."""
        return (images * self._scale).add_(self._shift)
