"""Loaders over files: worker processes read what a batch asks for, and the batch is finished on the device.

A subclass says what to ask for and how to finish what was read; pictures with one label and pictures with masks differ
in nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Generic

from switchnorm.data.files.remarks import Remarks
from switchnorm.data.loaders.loader import Batch, Loader, TrainingLoader
from switchnorm.data.loaders.reader import BatchReader, ReadT, RequestT
from switchnorm.data.loaders.share import Share
from switchnorm.data.loaders.workers import default_workers, read_batches


class FileBatches(Loader, Generic[RequestT, ReadT]):
    """A loader for evaluation; shares as `Loader`.

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
        yield from map(self._finished, self._read(requests, len(self)))

    def _read(self, requests: Iterable[RequestT], count: int) -> Iterator[ReadT]:
        """What the `count` requests ask for, in order."""
        return read_batches(self.reader, requests, count, self.workers, self.share.device, self._remarks)

    @abstractmethod
    def _request(self, samples: list[int]) -> RequestT:
        """Asks for these samples."""

    @abstractmethod
    def _finished(self, read: ReadT) -> Any:
        """The batch, on the device."""


class TrainingFileBatches(TrainingLoader, Generic[RequestT, ReadT]):
    """A loader for training; order, shares and state as `TrainingLoader`.

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
        yield from map(self._finished, self._read(self._requests(position), len(self) - position))

    def _read(self, requests: Iterable[RequestT], count: int) -> Iterator[ReadT]:
        """What the `count` requests ask for, in order."""
        return read_batches(self.reader, requests, count, self.workers, self.share.device, self._remarks)

    @abstractmethod
    def _requests(self, position: int) -> Iterator[RequestT]:
        """Ask for this process's share of each batch of the epoch from `position` on."""

    @abstractmethod
    def _finished(self, read: ReadT) -> Batch:
        """The batch, on the device."""
