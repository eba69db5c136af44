"""What the pixels of a dataset's masks mean, whether they hold numbers or colours. Nothing here needs torch."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from switchnorm.data.segmentation.labels import IGNORED, UNKNOWN, Numbering
from switchnorm.data.segmentation.mask_file import MaskContent, counted, first_place, hexadecimal, read_content
from switchnorm.errors import InputError

Array = np.ndarray[Any, Any]


class MaskFacts(NamedTuple):
    """What is in a mask.

    Args:
        labels: pixels by label; 255 is what does not count.
        values: pixels by number, or by colour ("#804080") where colours decided.
        gray: whether it is in red, green and blue, and was read by its numbers.
    """

    labels: dict[int, int]
    values: dict[int | str, int]
    gray: bool


@dataclass(frozen=True)
class Legend:
    """What the pixels of a dataset's masks mean.

    A mask with one number per pixel is read by the numbers, paletted or not. One in red, green and blue is read by the
    colours where there are any, and otherwise by the numbers if its channels are all the same.

    Args:
        numbering: what numbers mean.
        names: of the classes, in the order of the labels.
        colors: (0xRRGGBB, label) of every colour that means a class, or with label 255 what does not count.
        by_color: whether `colors` count for every mask, and the colours of its palette for a paletted one.
        advice: how to make colours count where there are none, for errors; "" for no way.
    """

    numbering: Numbering
    names: tuple[str, ...]
    colors: tuple[tuple[int, int], ...] = ()
    by_color: bool = False
    advice: str = ""

    def labels(self, path: str) -> Array:
        """The labels of a mask's pixels, (H, W) uint8.

        Raises:
            DamagedError: a file that is missing or damaged.
            InputError: a file of a kind that masks cannot have, a number or a colour that means nothing, or what can be
                read in two ways.
        """
        return self._read(path, read_content(path))[0]

    def look(self, path: str) -> MaskFacts:
        """What is in a mask; raises as `labels`."""
        content = read_content(path)
        labels, by_color = self._read(path, content)
        return MaskFacts(
            counted(labels), content.counted(by_color=by_color), content.colors is not None and not by_color
        )

    def _read(self, path: str, content: MaskContent) -> tuple[Array, bool]:
        """The labels of what was read, (H, W) uint8, and whether colours decided them; raises as `labels`."""
        if self.by_color:
            shown = content.shown()
            if shown is None:
                raise InputError(f"mask {path} has numbers beyond 8 bits; expected colours, as data.values says")
            return self._known_colors(path, shown), True
        if content.numbers is None:
            assert content.colors is not None
            return self._known_colors(path, content.colors), True
        numbers = content.numbers
        if not self.colors or self._shared is not None:
            return self._known_numbers(path, numbers), False
        if content.indexed:
            assert content.palette is not None
            self._check_palette(path, numbers, content.palette)
        if content.colors is not None:
            by_color, by_number = self._of_colors(content.colors), self._of_numbers(numbers)
            if (by_color != UNKNOWN).all():
                if (by_number != UNKNOWN).all() and (by_color != by_number).any():
                    self._refuse_both(path, content.colors, numbers, by_color, by_number)
                return by_color.astype(np.uint8), True
        return self._known_numbers(path, numbers), False

    @functools.cached_property
    def _table(self) -> Array:
        return self.numbering.table()

    @functools.cached_property
    def _sorted(self) -> tuple[Array, Array]:
        """The colours in order, and their labels."""
        pairs = np.array(sorted(self.colors), np.int32).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1].astype(np.int16)

    @functools.cached_property
    def _shared(self) -> int | None:
        """A colour that means two things, if there is one."""
        counts = Counter(color for color, _ in self.colors)
        return next((color for color, count in counts.items() if count > 1), None)

    def _of_numbers(self, numbers: Array) -> Array:
        """Labels (H, W) int16, -1 of what means nothing."""
        unsigned = numbers.dtype.itemsize <= 2
        return self._table[numbers.astype(np.uint16) if unsigned else np.where((numbers >> 16) == 0, numbers, -1)]

    def _of_colors(self, colors: Array) -> Array:
        """Labels (H, W) int16, -1 of what means nothing."""
        known, labels = self._sorted
        place = np.searchsorted(known, colors).clip(max=len(known) - 1)
        return np.where(known[place] == colors, labels[place], UNKNOWN)

    def _known_numbers(self, path: str, numbers: Array) -> Array:
        labels = self._of_numbers(numbers)
        if (labels == UNKNOWN).any():
            row, column = first_place(labels == UNKNOWN)
            raise InputError(
                f"mask {path} has {int(numbers[row, column])} in row {row}, column {column}; expected {self.numbering}"
            )
        return labels.astype(np.uint8)

    def _known_colors(self, path: str, colors: Array) -> Array:
        if not self.colors:
            row, column = first_place((colors >> 16 != colors & 255) | (colors >> 8 & 255 != colors & 255))
            raise InputError(
                f"mask {path} is a picture in colour, {hexadecimal(int(colors[row, column]))} in row {row}, column "
                f"{column}; expected one number per pixel: {self.numbering}{self.advice and f', or {self.advice}'}"
            )
        if self._shared is not None:
            color = self._shared
            same = " and ".join(self._called(label) for each, label in self.colors if each == color)
            raise InputError(
                f"mask {path} is a picture in colour, and {same} share the colour {hexadecimal(color)}; expected a "
                "colour of its own for each"
            )
        labels = self._of_colors(colors)
        unknown = labels == UNKNOWN
        if unknown.any():
            row, column = first_place(unknown)
            color = int(colors[row, column])
            nearest, label = min(self.colors, key=lambda pair: _distance(pair[0], color))
            count = int(unknown.sum())
            alike = f" and {count - 1} more pixels of unknown colours" if count > 1 else ""
            raise InputError(
                f"mask {path} has the colour {hexadecimal(color)} in row {row}, column {column}{alike}; the nearest "
                f"that means something is {hexadecimal(nearest)}, {self._called(label)}"
            )
        return labels.astype(np.uint8)

    def _check_palette(self, path: str, numbers: Array, palette: Array) -> None:
        """Refuse a palette that shows every number in a colour that means something, and one in another than it means.

        Palettes show void in whatever colour is left.
        """
        used = np.unique(numbers)
        used = used[self._of_numbers(used) != IGNORED]
        by_color, by_number = self._of_colors(palette[used]), self._of_numbers(used)
        differ = by_color != by_number
        if (by_color != UNKNOWN).all() and differ.any():
            place = int(differ.argmax())
            number, color = int(used[place]), hexadecimal(int(palette[used[place]]))
            meant = int(by_number[place])
            raise InputError(
                f"mask {path} shows {number} in {color}, the colour of {self._called(int(by_color[place]))}, but "
                f"{number} {'means nothing' if meant == UNKNOWN else f'is the number of {self._called(meant)}'}; say "
                f"in data.values what counts, the colours, {{'{color}': NAME}}, or the numbers, {{{number}: NAME}}"
            )

    def _refuse_both(self, path: str, colors: Array, numbers: Array, by_color: Array, by_number: Array) -> None:
        row, column = first_place(by_color != by_number)
        color, number = hexadecimal(int(colors[row, column])), int(numbers[row, column])
        raise InputError(
            f"mask {path} can be read in two ways: {color} in row {row}, column {column} is the colour of "
            f"{self._called(int(by_color[row, column]))}, and as a number {number} it is "
            f"{self._called(int(by_number[row, column]))}; say in data.values which, {{'{color}': NAME}} or "
            f"{{{number}: NAME}}"
        )

    def _called(self, label: int) -> str:
        return "void" if label == IGNORED else repr(self.names[label])


def _distance(one: int, other: int) -> int:
    """Between two colours, 0xRRGGBB: the sum of squares."""
    return sum(((one >> shift & 255) - (other >> shift & 255)) ** 2 for shift in (0, 8, 16))
