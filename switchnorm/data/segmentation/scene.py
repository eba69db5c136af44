"""A picture as evaluation sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Scene(NamedTuple):
    """A picture at all the sizes at which the network is run on it.

    Args:
        index: which test picture it is.
        pictures: (3, h, w) float32, normalized, one for each size; sides are multiples of the dataset's `multiple`.
        size: height and width of the original.
        target: (height, width) uint8 labels; None if unlabelled.
    """

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    pictures: tuple[Tensor, ...]
    size: tuple[int, int]
    target: Tensor | None
