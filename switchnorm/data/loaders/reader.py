"""What reads a batch in a worker process, and how errors are passed back from there."""

from __future__ import annotations

import traceback
from abc import abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, get_worker_info

from switchnorm.data.files.remarks import FileRemark, gathered
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
    remarks: list[FileRemark]


class BatchReader(Dataset["Success | Failure"], Generic[RequestT, ReadT]):
    """Reads batches, or whatever share of them a process is asked for."""

    def __getitem__(self, request: RequestT) -> Success | Failure:
        try:
            with gathered() as remarks:
                read = Success(self.read(request), remarks)
            if get_worker_info() is not None:
                _share(read)
            return read
        except InputError as error:
            return Failure(str(error))
        except Exception as error:
            if get_worker_info() is None:
                raise
            return Failure(_unexpected(error))

    @abstractmethod
    def read(self, request: RequestT) -> ReadT:
        """What was asked for; raises `InputError`."""


def _share(read: object) -> None:
    """Move tensors to shared memory here, where what goes wrong can be passed back.

    Otherwise a thread of multiprocessing does, which prints a traceback and lets the other side wait forever.
    """
    for leaf in tree_leaves(read):
        if isinstance(leaf, Tensor):
            leaf.share_memory_()


def _unexpected(error: Exception) -> str:
    """What a reader did not expect, in a line."""
    if isinstance(error, MemoryError):
        return "memory is short for the processes that read pictures; take fewer, by data.workers, or smaller batches"
    said = str(error).strip().partition("\n")[0]
    if "shared memory" in said or "shm" in said:
        return f"no room in shared memory, /dev/shm ({said}); make it larger, or read without it by --data.workers 0"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"reading pictures failed with {type(error).__name__}: {said} ({place.filename}, line {place.lineno}); "
        "--data.workers 0 shows how it came to that"
    )
