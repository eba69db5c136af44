"""What becomes of samples whose files are damaged or missing, in the same way for every dataset of files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from switchnorm.data.files.picture_file import DamagedError, unreadable
from switchnorm.errors import InputError

SampleT = TypeVar("SampleT")


class Damage:
    """Reads samples, and keeps account of those that cannot be read.

    Args:
        skip: whether to go on where a sample cannot be read.

    Attributes:
        found: the places of the samples that could not be read, with path and reason.
    """

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.found: dict[int, str] = {}

    def read(self, read: Callable[[int], SampleT], index: int) -> SampleT | None:
        """The sample at a place; None, and an entry in `found`, where it cannot be read.

        Raises:
            InputError: it cannot be read and shall not be skipped, or whatever `read` raises.
        """
        try:
            return read(index)
        except DamagedError as error:
            if not self.skip:
                raise unreadable(error) from error
            self.found[index] = str(error)
            return None

    def next_whole(self, read: Callable[[int], SampleT], index: int, total: int, what: str) -> tuple[SampleT, int]:
        """The sample at a place or, where it cannot be read, the next one that can; and its place.

        Args:
            read: reads the sample at a place.
            index: the place.
            total: number of samples; the first follows the last.
            what: where they are from, for the error.

        Raises:
            InputError: as `read`, or none of the samples can be read.
        """
        for step in range(total):
            place = (index + step) % total
            sample = self.read(read, place)
            if sample is not None:
                return sample, place
        first = next(iter(self.found.values()))
        raise InputError(f"none of the {total} training pictures in {what} can be read; the first is {first}")


def read_one(read: Callable[[int], SampleT], index: int) -> SampleT:
    """The sample at a place, in place of which nothing else will do.

    Raises:
        InputError: it cannot be read.
    """
    sample = Damage(skip=False).read(read, index)
    assert sample is not None
    return sample


class MayLack(Protocol):
    """A batch as read, of which some samples may be missing."""

    @property
    def damaged(self) -> dict[int, str]:
        """The places of what could not be read, with path and reason."""


BatchT = TypeVar("BatchT", bound=MayLack)


def reported(batches: Iterator[BatchT], count: int, what: str) -> Iterator[BatchT]:
    """The batches, and with the last of `count` a warning that numbers and names the samples that were not read."""
    damaged: dict[int, str] = {}  # in the order of discovery
    for number, batch in enumerate(batches, 1):
        damaged.update(batch.damaged)
        if number == count and damaged:
            first = ", ".join(list(damaged.values())[:3])
            more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
            warnings.warn(f"{len(damaged)} {what}: {first}{more}", stacklevel=2)
        yield batch
