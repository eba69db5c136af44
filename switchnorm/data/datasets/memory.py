"""Datasets that fit in memory."""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.fingerprint import split_fingerprint
from switchnorm.data.loaders.share import Share
from switchnorm.data.views import Views

if TYPE_CHECKING:
    from switchnorm.data.augment.chain import Augment
    from switchnorm.data.files.surveyed import Surveyed
    from switchnorm.data.loaders.memory_batches import Batches, Samples, TrainingBatches
    from switchnorm.data.preparation import Preparation


class InMemory(Dataset):
    """A dataset that is read as a whole, once, and of which batches are cut on the device."""

    #: The value of a white pixel.
    white: ClassVar[float] = 255

    @abstractmethod
    def load(self) -> tuple[Samples, Samples]:
        """Read the training and the test samples."""

    @abstractmethod
    def augmentation(self) -> Augment | None:
        """What training does to the pixels, as these options say."""

    def finish(self) -> Augment | None:
        """What training does to the normalized images, as these options say."""
        return None

    def colors(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation by which channels are normalized, in units of the images' values."""
        test = self.samples[1]
        return test.mean, test.std

    @property
    def preparation(self) -> Preparation:
        """As of `Dataset`: the shorter side resized to that of the images, the centre cut out; one channel is grey."""
        from switchnorm.data.preparation import Crop, Preparation  # as `Dataset` explains

        mean, std = self.colors()
        return Preparation(Crop(self.size, self.size), mean, std, scale=self.white / 255)

    @functools.cached_property
    def samples(self) -> tuple[Samples, Samples]:
        """The training and the test samples, read once."""
        return self.load()

    @property
    def train_size(self) -> int:
        """Number of training samples."""
        return len(self.samples[0])

    def prepare(self) -> None:
        """Read the samples."""
        self.samples  # noqa: B018 - it is read by being asked for

    def surveyed(self) -> tuple[Surveyed, ...]:
        """The training and the test samples."""
        from switchnorm.data.datasets.memory_facts import SurveyedSamples  # as `Dataset` explains

        train, test = self.samples
        return SurveyedSamples("train", train), SurveyedSamples("test", test)

    def fingerprint(self) -> dict[str, Any]:
        """As of `Dataset`: how many samples each class has, and in which order they come."""
        found = {}
        for split, samples in zip(("train", "test"), self.samples, strict=True):
            labels = samples.labels.tolist()
            found[split] = split_fingerprint(map(str, labels), labels, self.num_classes, marked=False)
        return found

    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        steps: int | None = None,
        share: Share = Share(),
    ) -> TrainingBatches:
        """The loader for training; see `TrainingBatches` for arguments and errors."""
        from switchnorm.data.loaders.memory_batches import TrainingBatches  # as `Dataset` explains

        return TrainingBatches(
            self.samples[0],
            batch_size=batch_size,
            seed=seed,
            steps=steps,
            augment=self.augmentation(),
            finish=self.finish(),
            share=share,
        )

    def test_batches(
        self,
        *,
        batch_size: int,
        share: Share = Share(),
        views: Views = "centre",
    ) -> Batches:
        """The loader for evaluation; see `Batches` for arguments and errors."""
        from switchnorm.data.loaders.memory_batches import Batches  # as `Dataset` explains

        return Batches(self.samples[1], batch_size=batch_size, share=share, views=views)
