"""What every dataset offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from switchnorm.data.loader import Loader, TrainingLoader
from switchnorm.data.views import Views


class Dataset(ABC):
    """A labelled image dataset by name. Constructing one reads nothing; `prepare` does, or the first need of the data.

    A subclass is a dataclass whose fields are its options, because its signature is the schema of the configuration.
    """

    #: What the labels are for: "classification", a label for each image, or "segmentation", one for each pixel.
    task: ClassVar[str] = "classification"
    #: Channels of an image.
    channels: ClassVar[int]

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels; some datasets are read to know them."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Side of the square training images, in pixels."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the largest training image, in pixels."""
        return self.size, self.size

    @property
    @abstractmethod
    def train_size(self) -> int:
        """Number of training samples."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @abstractmethod
    def prepare(self) -> None:
        """Read the data, or find it and see what is there, so that whatever is wrong shows now.

        Raises:
            InputError: data that is missing, damaged or foreign.
        """

    @abstractmethod
    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        steps: int | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> TrainingLoader:
        """The loader for training: normalized images, float32 (N, C, H, W), and labels, int64 (N,), on `device`.

        Args:
            batch_size: samples per batch, all processes together; samples that fill no batch wait for another pass.
            seed: determines order and augmentation.
            epochs: how many the run has, for what changes towards its end; None where nobody knows.
            steps: batches of an epoch, a window in the endless sequence of passes; None is one pass over the data.
            rank: this process, 0 <= rank < world.
            world: number of processes.
            device: where the batches are wanted.

        Raises:
            InputError: no training samples, a batch that they or the processes do not fit, or no steps.
        """

    @abstractmethod
    def test_batches(
        self,
        *,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        views: Views = "centre",
    ) -> Loader:
        """The loader for evaluation: every test sample once, in order; shares as `Loader`.

        Args:
            batch_size: samples per batch, all processes together; the last batch may hold fewer.
            rank: this process, 0 <= rank < world.
            world: number of processes.
            device: where the batches are wanted.
            views: see `Views`; with several views images are (N, V, C, H, W).

        Raises:
            InputError: no test samples, views that these pictures do not have, or processes that do not fit.
        """
