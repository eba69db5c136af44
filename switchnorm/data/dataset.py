"""What every dataset offers."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from switchnorm.data.batches import Augment, Batches, Samples, TrainingBatches


class Dataset(ABC):
    """A labelled image dataset by name. Constructing one reads nothing; the files are read when batches are asked for.

    A subclass is a dataclass whose fields are its options, because its signature is the schema of the configuration.
    """

    #: The names of the classes, in the order of the labels.
    classes: ClassVar[tuple[str, ...]]
    #: Channels of an image.
    channels: ClassVar[int]
    #: Side of the square images, in pixels.
    size: ClassVar[int]

    @abstractmethod
    def load(self) -> tuple[Samples, Samples]:
        """Read the training and the test samples."""

    @abstractmethod
    def augmentation(self) -> Augment | None:
        """What training does to the pixels, as these options say."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @functools.cached_property
    def samples(self) -> tuple[Samples, Samples]:
        """The training and the test samples, read once."""
        return self.load()

    def train_batches(
        self, *, batch_size: int, seed: int, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
    ) -> TrainingBatches:
        """The loader for training; see `TrainingBatches` for arguments and errors."""
        return TrainingBatches(
            self.samples[0],
            batch_size=batch_size,
            seed=seed,
            augment=self.augmentation(),
            rank=rank,
            world=world,
            device=device,
        )

    def test_batches(
        self, *, batch_size: int, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
    ) -> Batches:
        """The loader for evaluation; see `Batches` for arguments and errors."""
        return Batches(self.samples[1], batch_size=batch_size, rank=rank, world=world, device=device)
