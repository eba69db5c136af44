"""What a label of a pixel means: in memory, and in the files of masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # and inside methods, for the reason that `Dataset` explains
    import numpy as np

#: The label of pixels that do not count: void, unlabelled, or beside the picture. Classes are numbered below it.
IGNORED = 255

#: What a pixel of a mask file may hold.
_VALUES = 1 << 16
_UNKNOWN = -1


@dataclass(frozen=True)
class Numbering:
    """How a dataset's mask files number the classes.

    Args:
        classes: the number of each class, in the order of the labels; at most 255 of them.
        ignored: the numbers of pixels that do not count, the one first that is written for them.
    """

    classes: tuple[int, ...]
    ignored: tuple[int, ...]

    def table(self) -> np.ndarray[Any, Any]:
        """(65537,) int16: the label of every number of 16 bits; -1 for those that mean nothing, and as the last."""
        import numpy as np

        table = np.full(_VALUES + 1, _UNKNOWN, np.int16)
        table[list(self.ignored)] = IGNORED
        table[list(self.classes)] = np.arange(len(self.classes))
        return table

    def written(self, labels: Any) -> np.ndarray[Any, Any]:
        """Labels (H, W) uint8, a tensor or an array, in the numbers of the files: (H, W) uint8."""
        import numpy as np

        table = np.full(IGNORED + 1, IGNORED, np.uint8)
        table[: len(self.classes)] = self.classes
        table[IGNORED] = next((number for number in self.ignored if number <= IGNORED), IGNORED)
        return table[np.asarray(labels)]

    def reordered(self, labels: Sequence[int]) -> Numbering:
        """The same numbers of files for a run that numbers the classes otherwise.

        Args:
            labels: the run's label of each class, in the order of this numbering.
        """
        return Reordered(self.classes, self.ignored, tuple(labels))

    def __str__(self) -> str:
        counted = f"the numbers {_ranges(self.classes)} of the classes"
        return f"{counted}, and {_ranges(self.ignored)} for what does not count" if self.ignored else counted


@dataclass(frozen=True)
class Reordered(Numbering):
    """A numbering whose classes have other labels than their order says.

    Args:
        labels: of each class, in the order of `classes`.
    """

    labels: tuple[int, ...]

    def table(self) -> np.ndarray[Any, Any]:
        """As of `Numbering`."""

        table, there = super().table(), super().table()
        for place, label in enumerate(self.labels):
            table[there == place] = label
        return table

    def written(self, labels: Any) -> np.ndarray[Any, Any]:
        """As of `Numbering`; a class that these files do not have is written as what does not count."""
        import numpy as np

        place_of = np.full(IGNORED + 1, IGNORED, np.uint8)
        place_of[list(self.labels)] = np.arange(len(self.labels))
        return super().written(place_of[np.asarray(labels)])


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers in words: "0 to 10", "7, 8, 11 to 13"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
