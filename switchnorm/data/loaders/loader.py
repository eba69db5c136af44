"""What every loader has in common: which samples a batch holds, which of them are this process's, and its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from switchnorm.data.counter import permutation
from switchnorm.data.loaders.share import Share
from switchnorm.errors import InputError

#: Images (N, C, H, W), or (N, V, C, H, W) with several views of each, and what they are: labels (N,) int64, labels of
#: pixels (N, h, w), or a dictionary for each of the objects on it.
Batch = tuple[Tensor, Any]


class Loader(ABC):
    """Every sample once, in the stored order. Each iteration starts at the first batch.

    Every process sees the same number of batches, and a contiguous share of each. Shares differ by one sample at most,
    and no sample is repeated or lost; so when the last batch holds fewer samples than there are processes, some of its
    shares are empty.

    Args:
        total: number of samples.
        batch_size: samples per batch, all processes together; the last batch may hold fewer.
        share: what of each batch this process gets.

    Attributes:
        left_out: the places of the samples that the latest iteration left out of this process's share because they
            cannot be read, up to the batch that was handed out last. Its batches hold the other samples, in order.

    Raises:
        InputError: fewer samples per batch than processes.
    """

    def __init__(self, total: int, *, batch_size: int, share: Share) -> None:
        if batch_size < share.world:
            raise InputError(f"batch size {batch_size} is smaller than the number of processes, {share.world}")
        self.total = total
        self.batch_size = batch_size
        self.share = share
        self.left_out: list[int] = []

    def __len__(self) -> int:
        return -(-self.total // self.batch_size)

    def first(self, count: int) -> None:
        """Give only the first samples, from the next iteration on.

        Args:
            count: how many, all processes together; where there are fewer, all of them.

        Raises:
            InputError: fewer than 1, or a loader for training, whose order is random.
        """
        if count < 1:
            raise InputError(f"the first samples must be at least 1, got {count}")
        self.total = min(count, self.total)

    def pixels(self, images: Tensor) -> Tensor:
        """The values in files of which images were made, as far as the loader knows; to be looked at."""
        return images

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Make the batches: a `Batch` each, or what the task calls one."""

    def places(self, position: int) -> slice:
        """This process's part of the batch at `position`, as places in the order of the samples."""
        start = position * self.batch_size
        return self.share.of(start, min(self.batch_size, self.total - start))


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
        share: what of each batch this process gets.

    Raises:
        InputError: fewer samples than a batch holds, a batch that the processes cannot share evenly, or no steps.
    """

    def __init__(self, total: int, *, batch_size: int, seed: int, steps: int | None, share: Share) -> None:
        super().__init__(total, batch_size=batch_size, share=share)
        if total < batch_size:
            raise InputError(
                f"batch size {batch_size} is larger than the training set, {total} images; the most is {total}"
            )
        if batch_size % share.world:
            raise InputError(f"batch size {batch_size} cannot be shared evenly by {share.world} processes")
        if steps is not None and steps < 1:
            raise InputError(f"steps must be at least 1, or none for a whole pass, got {steps}")
        self.seed = seed
        self.batches_per_pass = total // batch_size
        self.steps = self.batches_per_pass if steps is None else steps
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        return self.steps

    def first(self, count: int) -> None:
        """Refused: what comes first is another thing in every pass."""
        raise InputError(f"the first {count} samples can be evaluated alone, and not trained on")

    def __iter__(self) -> Iterator[Batch]:
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
        for batch in self._batches(self.position):
            self.position += 1  # before the batch is used: a checkpoint written after it must not repeat it
            yield batch

    def upcoming(self) -> list[int]:
        """The samples of this process's next batch, by their places in the dataset."""
        return next(self._indices(self.position))[1].tolist()

    @abstractmethod
    def _batches(self, position: int) -> Iterator[Batch]:
        """The batches of the epoch from `position` on."""

    def _indices(self, position: int, device: torch.device | str = "cpu") -> Iterator[tuple[int, Tensor]]:
        """For each batch of the epoch from `position` on: its pass, and this process's samples, (n,) int64."""
        for pass_index, place, order in self._passes(position, device):
            yield pass_index, order[self.places(place)]

    def _passes(self, position: int, device: torch.device | str = "cpu") -> Iterator[tuple[int, int, Tensor]]:
        """For each batch of the epoch from `position` on: its pass, its place in there, and the order of that pass."""
        current = -1
        for number in range(self.epoch * len(self) + position, (self.epoch + 1) * len(self)):
            pass_index, place = divmod(number, self.batches_per_pass)
            if pass_index != current:
                current, order = pass_index, self._order(pass_index, device)
            yield pass_index, place, order

    def _order(self, pass_index: int, device: torch.device | str) -> Tensor:
        """The samples in the order of a pass: (n,) int64 on `device`; batches are cut from it one after the other."""
        return permutation(self.seed, pass_index, self.total, device)

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
