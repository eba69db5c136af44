"""A picture as evaluation of a detector sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from switchnorm.data.detection.objects import Objects


class DetectionScene(NamedTuple):
    """A picture at the size at which the network is run on it.

    Attributes:
        index: which test picture it is.
        picture: (3, h, w) float32, normalized, without padding.
        size: height and width of the original, as people see it.
        objects: in pixels of the original; None if nothing is known of them.
    """

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    picture: Tensor
    size: tuple[int, int]
    objects: Objects | None
