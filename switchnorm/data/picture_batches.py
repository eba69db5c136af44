"""Loaders over pictures in files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from switchnorm.data.augment import Augment
from switchnorm.data.loader import Batch, Loader, Normalization, TrainingLoader
from switchnorm.data.pictures import EvaluationReader, Pictures, Request, TrainingReader
from switchnorm.data.views import with_mirrors
from switchnorm.data.workers import read_batches


class PictureBatches(Loader):
    """The loader for evaluation: normalized images, float32, and labels, int64 (N,); shares as `Loader`.

    Images are (N, 3, H, W), or (N, V, 3, H, W) where the reader's crops have several views. What cannot be read is left
    out, if the reader goes on at all, and reported with the last batch.

    Args:
        reader: of the test pictures.
        normalization: on `device`.
        batch_size: samples per batch, all processes together; the last batch may hold fewer.
        workers: number of processes that read.
        rank: this process, 0 <= rank < world.
        world: number of processes.
        device: where the batches are wanted.

    Raises:
        InputError: fewer samples per batch than processes, or no such rank; in iteration, an unreadable picture.
    """

    def __init__(
        self,
        reader: EvaluationReader,
        normalization: Normalization,
        *,
        batch_size: int,
        workers: int,
        rank: int,
        world: int,
        device: torch.device | str,
    ) -> None:
        super().__init__(len(reader.paths), batch_size=batch_size, rank=rank, world=world)
        self.reader = reader
        self.workers = workers
        self.device = device
        self._normalize = normalization

    def __iter__(self) -> Iterator[Batch]:
        shares = (self._share(position) for position in range(len(self)))
        requests = (Request(0, list(range(share.start, share.stop))) for share in shares)
        batches = read_batches(self.reader, requests, len(self), self.workers, self.device)
        what = f"of {self.total} test pictures could not be read and were left out"
        for pictures in _reported(batches, len(self), what):
            images = self._normalize(pictures.images.to(self.device, non_blocking=True))
            yield self._views(images), pictures.labels.to(self.device, non_blocking=True)

    def _views(self, images: Tensor) -> Tensor:
        return images[:, 0] if self.reader.crops.views == "centre" else with_mirrors(images)


class TrainingPictureBatches(TrainingLoader):
    """The loader for training: batches as `PictureBatches`, augmented; order, shares and state as `TrainingLoader`.

    How a sample is augmented is a function of (seed, pass, index of the sample). The next readable picture takes the
    place of one that cannot be read, if the reader goes on at all; these are reported with the epoch's last batch.

    Args:
        reader: of the training pictures.
        normalization: on `device`.
        finish: applied to the normalized images of every batch.
        batch_size: samples per batch, all processes together; samples that fill no batch wait for another pass.
        steps: batches of an epoch; None is one pass.
        workers: number of processes that read.
        rank: this process, 0 <= rank < world.
        world: number of processes.
        device: where the batches are wanted.

    Raises:
        InputError: fewer samples than a batch holds, a batch that the processes cannot share evenly, or no steps; in
            iteration, an unreadable picture.
    """

    def __init__(
        self,
        reader: TrainingReader,
        normalization: Normalization,
        finish: Augment | None,
        *,
        batch_size: int,
        steps: int | None,
        workers: int,
        rank: int,
        world: int,
        device: torch.device | str,
    ) -> None:
        total, seed = len(reader.paths), reader.seed
        super().__init__(total, batch_size=batch_size, seed=seed, steps=steps, rank=rank, world=world)
        self.reader = reader
        self.finish = finish
        self.workers = workers
        self.device = device
        self._normalize = normalization

    def _batches(self, position: int) -> Iterator[Batch]:
        count = len(self) - position
        requests = (Request(turn, index.tolist()) for turn, index in self._indices(position))
        batches = read_batches(self.reader, requests, count, self.workers, self.device)
        what = f"of {self.total} training pictures could not be read and others took their places"
        for place, pictures in enumerate(_reported(batches, count, what), position):
            images = self._normalize(pictures.images.to(self.device, non_blocking=True))
            if self.finish is not None:
                index = torch.tensor(pictures.samples)  # on the CPU: a GPU would be waited for
                images = self.finish(images, self.seed, self._turn(place)[0], index)
            yield images, pictures.labels.to(self.device, non_blocking=True)


def _reported(batches: Iterator[Pictures], count: int, what: str) -> Iterator[Pictures]:
    """The batches, and with the last of `count` a warning that numbers and names the pictures that were not read."""
    damaged: dict[str, None] = {}  # in the order of discovery
    for number, pictures in enumerate(batches, 1):
        damaged.update(dict.fromkeys(pictures.damaged))
        if number == count and damaged:
            first = ", ".join(list(damaged)[:3])
            more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
            warnings.warn(f"{len(damaged)} {what}: {first}{more}", stacklevel=2)
        yield pictures
