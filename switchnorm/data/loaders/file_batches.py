"""Loaders over files: worker processes read what a batch asks for, and the batch is finished on the device.

A subclass says what to ask for and how to finish what was read; pictures with one label and pictures with masks differ
in nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Generic

from switchnorm.data.files.remarks import Remarks
from switchnorm.data.loaders.damage import reported
from switchnorm.data.loaders.loader import Batch, Loader, TrainingLoader
from switchnorm.data.loaders.reader import BatchReader, ReadT, RequestT
from switchnorm.data.loaders.share import Share
from switchnorm.data.loaders.workers import default_workers, read_batches


class FileBatches(Loader, Generic[RequestT, ReadT]):
    """A loader for evaluation; shares as `Loader`.

    What the reader could not read is noted in `left_out`, and reported with the last batch.

    Args:
        reader: of the test files.
        total: number of samples.
        batch_size: samples per batch, all processes together; the last batch may hold fewer.
        workers: number of processes that read; None is `default_workers`.
        share: what of each batch this process gets, and where.

    Raises:
        InputError: fewer samples per batch than processes; in iteration, what the reader found wrong.
    """

    def __init__(
        self,
        reader: BatchReader[RequestT, ReadT],
        total: int,
        *,
        batch_size: int,
        workers: int | None,
        share: Share,
    ) -> None:
        super().__init__(total, batch_size=batch_size, share=share)
        self.reader = reader
        self.workers = default_workers() if workers is None else workers
        self._remarks = Remarks("test pictures", total)

    def __iter__(self) -> Iterator[Any]:
        self.left_out = []
        shares = (self.places(position) for position in range(len(self)))
        requests = (self._request(list(range(places.start, places.stop))) for places in shares)
        count, what = len(self), f"of {self.total} test pictures could not be read and were left out"
        batches = read_batches(self.reader, requests, count, self.workers, self.share.device, self._remarks)
        for read in reported(batches, count, what):
            self.left_out += read.damaged
            yield self._finished(read)

    @abstractmethod
    def _request(self, samples: list[int]) -> RequestT:
        """Asks for these samples."""

    @abstractmethod
    def _finished(self, read: ReadT) -> Any:
        """The batch, on the device."""


class TrainingFileBatches(TrainingLoader, Generic[RequestT, ReadT]):
    """A loader for training; order, shares and state as `TrainingLoader`.

    What the reader could not read is reported with the epoch's last batch.

    Args:
        reader: of the training files.
        total: number of samples.
        batch_size: samples per batch, all processes together; samples that fill no batch wait for another pass.
        seed: determines the order.
        steps: batches of an epoch; None is one pass.
        workers: number of processes that read; None is `default_workers`.
        share: what of each batch this process gets, and where.

    Raises:
        InputError: as `TrainingLoader`; in iteration, what the reader found wrong.
    """

    def __init__(
        self,
        reader: BatchReader[RequestT, ReadT],
        total: int,
        *,
        batch_size: int,
        seed: int,
        steps: int | None,
        workers: int | None,
        share: Share,
    ) -> None:
        super().__init__(total, batch_size=batch_size, seed=seed, steps=steps, share=share)
        self.reader = reader
        self.workers = default_workers() if workers is None else workers
        self._remarks = Remarks("training pictures", total)

    def _batches(self, position: int) -> Iterator[Batch]:
        count = len(self) - position
        what = f"of {self.total} training pictures could not be read and others took their places"
        requests = self._requests(position)
        batches = read_batches(self.reader, requests, count, self.workers, self.share.device, self._remarks)
        yield from map(self._finished, reported(batches, count, what))

    @abstractmethod
    def _requests(self, position: int) -> Iterator[RequestT]:
        """Ask for this process's share of each batch of the epoch from `position` on."""

    @abstractmethod
    def _finished(self, read: ReadT) -> Batch:
        """The batch, on the device."""
