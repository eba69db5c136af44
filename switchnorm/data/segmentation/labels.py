"""What a label of a pixel means: in memory, and in the files of masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # and inside methods, for the reason that `Dataset` explains
    import numpy as np

#: The label of pixels that do not count: void, unlabelled, or beside the picture. Classes are numbered below it.
IGNORED = 255
#: The label of numbers and colours that mean nothing.
UNKNOWN = -1
#: The greatest number that a pixel of a mask file may hold.
GREATEST = 65535


@dataclass(frozen=True)
class Numbering:
    """How a dataset's mask files number the classes.

    Args:
        classes: the number of each class, in the order of the labels; at most 255 of them.
        ignored: the numbers of pixels that do not count, the one first that is written for them.
        also: further numbers of classes, each with the label that it means; they are read, and never written.
        stated: what says so or can say it, for errors: "data.values {0: background, 255: road}"; "" for nothing.
    """

    classes: tuple[int, ...]
    ignored: tuple[int, ...]
    also: tuple[tuple[int, int], ...] = ()
    stated: str = ""

    def table(self) -> np.ndarray[Any, Any]:
        """(65537,) int16: the label of every number of 16 bits; -1 for those that mean nothing, and as the last."""
        import numpy as np

        table = np.full(GREATEST + 2, UNKNOWN, np.int16)
        table[list(self.ignored)] = IGNORED
        for number, label in (*zip(self.classes, range(IGNORED), strict=False), *self.also):
            table[number] = label
        return table

    @property
    def wide(self) -> bool:
        """Whether the numbers that are written need 16 bits."""
        return max(self.classes) > IGNORED

    @property
    def void(self) -> int:
        """The number that is written where nothing counts: the first of `ignored` that fits, or one of no class."""
        most = GREATEST if self.wide else IGNORED
        choices = (*self.ignored, *range(IGNORED, -1, -1))
        return next(number for number in choices if number <= most and number not in self.classes)

    def written(self, labels: Any) -> np.ndarray[Any, Any]:
        """Labels (H, W) uint8, a tensor or an array, in the numbers of the files: (H, W) uint8, uint16 if `wide`."""
        import numpy as np

        table = np.full(IGNORED + 1, self.void, np.uint16 if self.wide else np.uint8)
        table[: len(self.classes)] = self.classes
        return table[np.asarray(labels)]

    def __str__(self) -> str:
        counted = f"the numbers {in_words((*self.classes, *(number for number, _ in self.also)))} of the classes"
        said = f"{counted}, and {in_words(self.ignored)} for what does not count" if self.ignored else counted
        return f"{said} ({self.stated})" if self.stated else said


def in_words(numbers: Iterable[int]) -> str:
    """Whole numbers in words: "0 to 10", "7, 8, 11 to 13"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
