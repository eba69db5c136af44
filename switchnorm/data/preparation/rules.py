"""At which sizes networks are shown a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from switchnorm.data.augment.sizes import Size, fitted
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.preparation.tiling import Array, EvaluationSizes, Part, Resize, Tiling, at_sizes
from switchnorm.data.resizing import Pixelled, centre_crop, extent, resize, to_array


class Prepared(NamedTuple):
    """A picture as a network is shown it.

    Args:
        images: (C, h, w) uint8, one for each size at which the network is run on it.
        size: height and width of the original.
    """

    images: list[Array]
    size: Size


@dataclass(frozen=True)
class Crop:
    """One square: the short side is resized, and the middle cut out.

    Args:
        side: the length of the short side, in pixels.
        size: of the square.
    """

    kind: ClassVar[str] = "crop"
    side: int
    size: int

    def whole(self, picture: Pixelled, by: Interpolation) -> tuple[Array, ...]:
        """The images of a picture."""
        return (to_array(centre_crop(picture, self.side, self.size, by)),)

    def parts(self, picture: Pixelled, by: Interpolation) -> Iterator[Part]:
        """The picture as a whole."""
        yield Part.whole(self.whole(picture, by), extent(picture))


@dataclass(frozen=True)
class ShortSide:
    """The whole picture, resized until its short side or its longest one is as long as they may be.

    Args:
        side: the length of the short side, in pixels.
        longest: that of the longest side; None for no bound.
    """

    kind: ClassVar[str] = "short_side"
    side: int
    longest: int | None

    def whole(self, picture: Pixelled, by: Interpolation) -> tuple[Array, ...]:
        """The images of a picture."""
        return (to_array(resize(picture, fitted(extent(picture), self.side, self.longest), by)),)

    def parts(self, picture: Pixelled, by: Interpolation) -> Iterator[Part]:
        """The picture as a whole."""
        yield Part.whole(self.whole(picture, by), extent(picture))


@dataclass(frozen=True)
class ShortSides:
    """The whole picture at several sizes, whose sides are multiples; large ones in parts, see `Tiling`.

    Args:
        sides: short sides, in pixels; none takes the picture once, at its own size.
        longest: the longest side, before it is rounded; None for no bound.
        multiple: of which all sides are multiples; they are rounded up to it.
        resize: antialiased, by the preparation's interpolation; or plain, see `plain_resize`.
    """

    kind: ClassVar[str] = "short_sides"
    sides: tuple[int, ...]
    longest: int | None
    multiple: int
    resize: Literal["antialiased", "plain"] = "antialiased"

    @property
    def sizes(self) -> EvaluationSizes:
        """From a picture's size to those at which it is shown."""
        return EvaluationSizes(self.sides, self.longest, self.multiple)

    def tiling(self, size: Size) -> Tiling:
        """How a picture of a height and width is predicted."""
        return Tiling.of(size, self.sizes)

    def whole(self, picture: Pixelled, by: Interpolation) -> tuple[Array, ...]:
        """The images of a picture, however large."""
        return at_sizes(picture, self.sizes(extent(picture)), self._by(by))

    def parts(self, picture: Pixelled, by: Interpolation) -> Iterator[Part]:
        """The parts of a picture, one after the other."""
        return self.tiling(extent(picture)).tiles(picture, self._by(by))

    def _by(self, interpolation: Interpolation) -> Resize:
        return "plain" if self.resize == "plain" else interpolation


Rule = Crop | ShortSide | ShortSides
RULES: Mapping[str, type[Crop] | type[ShortSide] | type[ShortSides]] = {
    rule.kind: rule for rule in (Crop, ShortSide, ShortSides)
}
