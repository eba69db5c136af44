"""Loaders over datasets that fit in memory: the samples move to the device once, and batches are cut there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from switchnorm.data.counter import permutation
from switchnorm.errors import InputError

#: `augment(images, seed, epoch, index) -> images`: (N, C, H, W) pixels before normalization, index (N,) int64.
Augment = Callable[[Tensor, int, int, Tensor], Tensor]


@dataclass(frozen=True)
class Samples:
    """Labelled images in memory.

    Args:
        images: (N, C, H, W), uint8 or float32.
        labels: (N,) int64.
        mean: C numbers that normalization subtracts, in units of the images' values (0 to 255 for uint8 photographs).
        std: C numbers that it divides by.

    Raises:
        InputError: dtypes or sizes that do not fit together.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.images.dtype not in (torch.uint8, torch.float32):
            raise InputError(
                f"images must be (N, C, H, W), uint8 or float32, not {tuple(self.images.shape)} {self.images.dtype}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise InputError(
                f"labels must be ({len(self.images)},) int64 like the images, "
                f"not {tuple(self.labels.shape)} {self.labels.dtype}"
            )
        channels = self.images.shape[1]
        if not len(self.mean) == len(self.std) == channels:
            raise InputError(
                f"mean and std need one number per channel, {channels}, not {len(self.mean)} and {len(self.std)}"
            )

    def __len__(self) -> int:
        return len(self.labels)


class Batches:
    """Every sample once, in the stored order: the loader for evaluation. Each iteration starts at the first batch.

    Yields (images, labels): normalized float32 (N, C, H, W), and int64 (N,). Every process sees the same number of
    batches, and a contiguous share of each. Shares differ by one sample at most, and no sample is repeated or lost; so
    when the last batch holds fewer samples than there are processes, some of its shares are empty.

    Args:
        samples: the images and labels.
        batch_size: samples per batch, all processes together; the last batch may hold fewer.
        rank: this process, 0 <= rank < world.
        world: number of processes.
        device: where the samples are kept and the batches made.

    Raises:
        InputError: fewer samples per batch than processes, or no such rank.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 <= rank < world:
            raise InputError(f"rank {rank} is not one of {world} processes; ranks run from 0 to {world - 1}")
        if batch_size < world:
            raise InputError(f"batch size {batch_size} is smaller than the number of processes, {world}")
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.images = samples.images.to(device)
        self.labels = samples.labels.to(device)
        std = torch.tensor(samples.std, device=device).view(-1, 1, 1)
        self._scale = 1 / std
        self._shift = -torch.tensor(samples.mean, device=device).view(-1, 1, 1) / std

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for position in range(len(self)):
            share = self._share(position)
            yield self._normalize(self.images[share]), self.labels[share]

    def _share(self, position: int) -> slice:
        """This process's part of the batch at `position`, as places in the order of the epoch."""
        start = position * self.batch_size
        size = min(self.batch_size, len(self.labels) - start)
        return slice(start + size * self.rank // self.world, start + size * (self.rank + 1) // self.world)

    def _normalize(self, images: Tensor) -> Tensor:
        return (images * self._scale).add_(self._shift)


class TrainingBatches(Batches):
    """Full batches in an order that is new in every epoch, augmented: the loader for training.

    Which samples a batch holds is a function of (seed, epoch, position), and how a sample is augmented of (seed, epoch,
    index of the sample): neither depends on the number of processes, nor the augmentation on the batch size.

    The loader's whole state is (epoch, position), where position counts the batches handed out in this epoch. Iteration
    continues there, and starts the next epoch when position has reached the end. It cannot do so at the end itself:
    Lightning knows the length and never asks for the batch after the last.

    Args:
        samples: the images and labels.
        batch_size: samples per batch, all processes together; samples that fill no batch wait for another epoch.
        seed: determines order and augmentation.
        augment: applied to the pixels of every batch; none leaves them as they are.
        rank: this process, 0 <= rank < world.
        world: number of processes.
        device: where the samples are kept and the batches made.

    Raises:
        InputError: fewer samples than a batch holds, or a batch that the processes cannot share evenly.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(samples, batch_size=batch_size, rank=rank, world=world, device=device)
        if len(samples) < batch_size:
            raise InputError(f"batch size {batch_size} is larger than the training set, {len(samples)} images")
        if batch_size % world:
            raise InputError(f"batch size {batch_size} cannot be shared evenly by {world} processes")
        self.seed = seed
        self.augment = augment
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
        order = permutation(self.seed, self.epoch, len(self.labels), self.labels.device)
        while self.position < len(self):
            batch = self._batch(order[self._share(self.position)])
            self.position += 1  # before the batch is used: a checkpoint written after it must not repeat it
            yield batch

    def _batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images = self.images.index_select(0, index)
        if self.augment is not None:
            images = self.augment(images, self.seed, self.epoch, index)
        return self._normalize(images), self.labels[index]

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
