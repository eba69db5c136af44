"""What reads a batch in a worker process, and how errors are passed back from there."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

from torch.utils.data import Dataset

from switchnorm.data.files.remarks import Remark, gathered
from switchnorm.data.loaders.damage import MayLack
from switchnorm.errors import InputError

#: Says which batch, as a plain tuple without tensors, which would travel to the worker by shared memory.
RequestT = TypeVar("RequestT")
#: The batch that was read, which says what could not be.
ReadT = TypeVar("ReadT", bound=MayLack)


class Failure(NamedTuple):
    """A worker's error, passed back as a value: an exception would arrive with the worker's traceback in its text."""

    message: str


class Success(NamedTuple):
    """A batch that was read, and what was remarked about its files."""

    batch: Any
    remarks: list[Remark]


class BatchReader(Dataset["Success | Failure"], Generic[RequestT, ReadT]):
    """Reads batches, or whatever share of them a process is asked for."""

    def __getitem__(self, request: RequestT) -> Success | Failure:
        try:
            with gathered() as remarks:
                return Success(self.read(request), remarks)
        except InputError as error:
            return Failure(str(error))

    @abstractmethod
    def read(self, request: RequestT) -> ReadT:
        """What was asked for; raises `InputError`."""
