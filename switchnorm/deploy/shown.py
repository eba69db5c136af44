"""How pictures are shown to a network by a dataset of somebody's own, which says it by a method and not as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from switchnorm.data.preparation import Part
from switchnorm.data.resizing import Array, Pixelled, extent
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.data import Dataset


class Shown:
    """Stands where a `Preparation` does, for a network that takes normalized numbers.

    Args:
        dataset: with a method `shown` of its own.
    """

    rule = None

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def read(self, path: str) -> Pixelled:
        """As of `Preparation`."""
        from switchnorm.data.files.picture_file import read_pixels

        return read_pixels(path, self._dataset.pixels)

    def taken(self, picture: Any, title: str = "the picture") -> Pixelled:
        """A picture of Pillow; an array may mean anything to such a dataset."""
        if not isinstance(picture, Image.Image):
            kind = type(self._dataset).__name__
            raise InputError(f"{title} is an array, of which {kind} says nothing; give a file or a picture of Pillow")
        from switchnorm.data.files.picture_file import in_memory

        return in_memory(picture, title, self._dataset.pixels)

    def parts(self, picture: Pixelled) -> Iterator[Part]:
        """As of `Preparation`, but normalized already: float32 in place of uint8."""
        import torch

        given = picture if isinstance(picture, Image.Image) else torch.from_numpy(picture)
        yield Part.whole((self._dataset.shown(given).numpy(),), extent(picture))

    def normalized(self, pixels: Array) -> Array:
        """As they are."""
        return pixels
