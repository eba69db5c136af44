"""Large pictures in parts, so that predicting one takes no more memory than predicting a part."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from switchnorm.data.augment.sizes import Size, fitted, rounded_up
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.preparation.plain_resize import plain_resize
from switchnorm.data.resizing import Pixelled, resize, to_array, window

Array = np.ndarray[Any, Any]
#: An interpolation, by Pillow, as training resizes; or "plain", as OpenCV does, see `plain_resize`.
Resize: TypeAlias = Interpolation | Literal["plain"]

#: Pixels of a picture, as the network is shown it, that is predicted as a whole.
WHOLE = 2**22
#: The side of the part for which a tile is predicted, and how far the tile reaches beyond, in the network's pixels.
CORE, MARGIN = 1024, 128
#: The longest side to which a picture is enlarged.
LONGEST = 8192


class Part(NamedTuple):
    """A part of a picture, or the whole, as a network is shown it.

    Args:
        images: (C, h, w) uint8, one for each size at which the network is run on it.
        size: height and width of the part in the picture, in pixels.
        core: rows and columns of the picture that it decides.
        within: the same rows and columns, counted from the part's upper left corner.
    """

    images: tuple[Array, ...]
    size: Size
    core: tuple[slice, slice]
    within: tuple[slice, slice]

    @classmethod
    def whole(cls, images: tuple[Array, ...], size: Size) -> Part:
        """The whole of a picture of a height and width."""
        both = slice(0, size[0]), slice(0, size[1])
        return cls(images, size, both, both)


@dataclass(frozen=True)
class EvaluationSizes:
    """To which sizes evaluation resizes a picture.

    Args:
        sides: short sides; none takes it once, at its own size.
        longest: the longest side, before it is rounded; None for no bound.
        multiple: of which all sides are multiples; they are rounded up to it.
    """

    sides: tuple[int, ...]
    longest: int | None
    multiple: int

    def __call__(self, size: Size) -> list[Size]:
        """The sizes to which a picture of that size is resized."""
        return [rounded_up(fitted(size, side, self.longest), self.multiple) for side in self.sides or (None,)]


@dataclass(frozen=True)
class Tiling:
    """How a picture is predicted: at which sizes, and in which parts.

    Args:
        size: height and width of the picture.
        shown: the sizes to which the whole picture is resized.
        unbounded: the first of them that would have been longer than `LONGEST` and than the picture; None where none.
        side: of the square that a tile decides, in the picture's pixels; None for the picture as a whole.
        margin: how far a tile reaches beyond, likewise.
        multiple: of which the sides of what the network is shown are multiples.
    """

    size: Size
    shown: tuple[Size, ...]
    unbounded: Size | None
    side: int | None
    margin: int
    multiple: int

    @classmethod
    def of(cls, size: Size, sizes: EvaluationSizes) -> Tiling:
        """The tiling of a picture of that size.

        Args:
            size: height and width.
            sizes: to which evaluation resizes it.
        """
        most = max(LONGEST, *size)
        bounded = dataclasses.replace(sizes, longest=most if sizes.longest is None else min(sizes.longest, most))
        wanted, shown = sizes(size), bounded(size)
        unbounded = next((one for one, other in zip(wanted, shown, strict=True) if one != other), None)
        if max(height * width for height, width in shown) <= WHOLE:
            return cls(size, tuple(shown), unbounded, None, 0, sizes.multiple)
        factor = max(min(height / size[0], width / size[1]) for height, width in shown)
        side, margin = (max(round(pixels / factor), 1) for pixels in (CORE, MARGIN))
        return cls(size, tuple(shown), unbounded, side, margin, sizes.multiple)

    def __len__(self) -> int:
        """How many tiles there are."""
        if self.side is None:
            return 1
        return -(-self.size[0] // self.side) * -(-self.size[1] // self.side)

    def tiles(self, picture: Pixelled, resize: Resize) -> Iterator[Part]:
        """The tiles of a picture of that size, row by row."""
        if self.side is None:
            yield Part.whole(at_sizes(picture, self.shown, resize), self.size)
            return
        starts = (range(0, extent, self.side) for extent in self.size)
        for top, left in itertools.product(*starts):
            core, within, reach = zip(*map(self._spans, (top, left), self.size), strict=True)
            (upper, lower), (first, last) = reach
            size = lower - upper, last - first
            shown = [self._shown(whole, size) for whole in self.shown]
            yield Part(at_sizes(window(picture, upper, first, *size), shown, resize), size, core, within)

    def _spans(self, start: int, extent: int) -> tuple[slice, slice, Size]:
        """Along an axis: what a tile decides in the picture, the same within the tile, and where it begins and ends."""
        assert self.side is not None
        end = min(start + self.side, extent)
        first, last = max(start - self.margin, 0), min(end + self.margin, extent)
        return slice(start, end), slice(start - first, end - first), (first, last)

    def _shown(self, whole: Size, part: Size) -> Size:
        """The size of a part where the whole picture has that one."""
        height, width = (round(side * of / all_) for side, of, all_ in zip(part, whole, self.size, strict=True))
        return rounded_up((max(height, 1), max(width, 1)), self.multiple)


def at_sizes(picture: Pixelled, sizes: Sequence[Size], by: Resize) -> tuple[Array, ...]:
    """The picture at each of some sizes, (C, h, w) uint8."""
    if by == "plain":
        pixels = np.ascontiguousarray(to_array(picture).transpose(1, 2, 0))
        return tuple(np.ascontiguousarray(plain_resize(pixels, size).transpose(2, 0, 1)) for size in sizes)
    return tuple(to_array(resize(picture, size, by)) for size in sizes)
