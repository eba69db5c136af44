"""Reading test pictures for a detector: what worker processes do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from switchnorm.data.augment.resize import resized
from switchnorm.data.augment.sizes import Size, fitted
from switchnorm.data.detection.listed import Listed
from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.damage import Damage
from switchnorm.data.loaders.reader import BatchReader
from switchnorm.data.picture import Picture, size_of


class ReadPictures(NamedTuple):
    """Test pictures as read.

    Args:
        samples: the places of those that can be read.
        pictures: of these, (C, h, w) uint8 at the size of evaluation.
        sizes: height and width of the originals.
        damaged: the places of the others, with path and reason.
    """

    samples: list[int]
    pictures: list[Tensor]
    sizes: list[Size]
    damaged: dict[int, str]


def prepared(picture: Picture, side: int, longest: int | None, interpolation: Interpolation) -> Tensor:
    """A picture as evaluation sees it: (C, h, w) uint8, its short side as asked, or its longest one at most so long."""
    return resized(picture, fitted(size_of(picture), side, longest), interpolation)


@dataclass
class EvaluationReader(BatchReader[list[int], ReadPictures]):
    """Reads test pictures, by their places; leaves out what cannot be read, where files may be damaged.

    Args:
        listed: the test pictures.
        pixels: what their files become.
        side, longest, interpolation: as `prepared`.
    """

    listed: Listed
    pixels: Pixels
    side: int
    longest: int | None
    interpolation: Interpolation

    def read(self, request: list[int]) -> ReadPictures:
        """The pictures asked for."""
        damage = Damage(skip=self.listed.may_miss)
        samples: list[int] = []
        pictures: list[Tensor] = []
        sizes: list[Size] = []
        for index in request:
            picture = damage.read(self._picture, index)
            if picture is not None:
                samples.append(index)
                pictures.append(prepared(picture, self.side, self.longest, self.interpolation))
                sizes.append(size_of(picture))
        return ReadPictures(samples, pictures, sizes, damage.found)

    def _picture(self, index: int) -> Picture:
        return self.listed.picture(index, self.pixels)
