"""How samples are drawn for those who look at data; a task adds what its labels are."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image
from torch import Tensor

from switchnorm.data import Dataset
from switchnorm.data.files.surveyed import Surveyed


class Drawn(NamedTuple):
    """A sample to be shown.

    Args:
        picture: what is seen.
        caption: below it, as text.
    """

    picture: Image.Image
    caption: str


class Drawing:
    """Draws the samples of a dataset; by itself the picture alone.

    Args:
        dataset: whose samples they are.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def stored(self, split: Surveyed, index: int) -> Drawn:
        """A sample as it is stored, upright.

        Raises:
            InputError: it cannot be read.
        """
        return Drawn(split.picture(index), split.title(index))

    def trained(self, picture: Image.Image, target: Tensor) -> Drawn:
        """A sample of a training batch.

        Args:
            picture: the image that the network gets, in colours again.
            target: what the batch has for it: its label, (), or those of its pixels, (h, w).
        """
        return Drawn(picture, "")

    def colours(self) -> dict[str, str]:
        """What the colours in a drawing stand for: "#rrggbb" by name; none by default."""
        return {}
