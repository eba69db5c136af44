"""Datasets whose pictures keep their shapes, so that each training batch has a size of its own."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Protocol

from switchnorm.data.datasets.from_files import FromFiles
from switchnorm.errors import InputError


class BatchSizes(Protocol):
    """What decides the sizes of training batches."""

    def largest(self, sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """Height and width of the largest batch of pictures of these heights and widths."""


class AnySize(FromFiles):
    """A dataset whose pictures have any size."""

    @property
    @abstractmethod
    def _training_sizes(self) -> BatchSizes: ...

    @property
    @abstractmethod
    def _distinct_sizes(self) -> list[tuple[int, int]]:
        """The different heights and widths of the training pictures; raise `InputError` where there are none."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the largest training batch; the sizes of all pictures are read to know it.

        Where there are no training pictures it is that of pictures 640 wide and 480 high, for a dry run with noise.
        """
        try:
            sizes = self._distinct_sizes
        except InputError:
            sizes = [(480, 640)]
        return self._training_sizes.largest(sizes)

    @property
    def size(self) -> int:
        """The longer side of `shape`."""
        return max(self.shape)
