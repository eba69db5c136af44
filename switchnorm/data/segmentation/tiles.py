"""Large pictures in parts, so that predicting one takes no more memory than predicting a part."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from switchnorm.data.augment.sizes import Size, rounded_up
from switchnorm.data.picture import Picture
from switchnorm.data.segmentation.scene import Scene
from switchnorm.data.segmentation.scene_readers import Resize, make_scene
from switchnorm.data.segmentation.sizes import EvaluationSizes

#: Pixels of a picture, as the network is shown it, that is predicted as a whole.
WHOLE = 2**22
#: The side of the part for which a tile is predicted, and how far the tile reaches beyond, in the network's pixels.
CORE, MARGIN = 1024, 128
#: The longest side to which a picture is enlarged.
LONGEST = 8192


class Tile(NamedTuple):
    """A part of a picture, and which of its labels count.

    Args:
        scene: the part as the network is shown it.
        core: rows and columns of the picture that it decides.
        within: the same rows and columns, counted from the part's upper left corner.
    """

    scene: Scene
    core: tuple[slice, slice]
    within: tuple[slice, slice]


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

    def tiles(self, picture: Picture, resize: Resize) -> Iterator[Tile]:
        """The tiles of a picture of that size, row by row, with pixels (C, h, w) uint8."""
        if self.side is None:
            whole = slice(0, self.size[0]), slice(0, self.size[1])
            yield Tile(make_scene(0, picture, None, self.shown, resize), whole, whole)
            return
        starts = (range(0, extent, self.side) for extent in self.size)
        for top, left in itertools.product(*starts):
            core, within, reach = zip(*map(self._spans, (top, left), self.size), strict=True)
            (upper, lower), (first, last) = reach
            part = (
                picture[:, upper:lower, first:last]
                if isinstance(picture, Tensor)
                else picture.crop((first, upper, last, lower))
            )
            shown = [self._shown(size, (lower - upper, last - first)) for size in self.shown]
            yield Tile(make_scene(0, part, None, shown, resize), core, within)

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
