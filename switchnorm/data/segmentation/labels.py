"""What a label of a pixel means: in memory, and in the files of masks."""

from __future__ import annotations

from collections.abc import Iterable
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

    def __str__(self) -> str:
        counted = f"the numbers {_ranges(self.classes)} of the classes"
        return f"{counted}, and {_ranges(self.ignored)} for what does not count" if self.ignored else counted


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers in words: "0 to 10", "7, 8, 11 to 13"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
