"""A part of a picture with masks, as a network is shown it."""

from __future__ import annotations

from typing import NamedTuple

from switchnorm.data.segmentation.scene import Scene


class Tile(NamedTuple):
    """A part of a picture, and which of its labels count; see `switchnorm.data.preparation.Tiling`.

    Args:
        scene: the part as the network is shown it.
        core: rows and columns of the picture that it decides.
        within: the same rows and columns, counted from the part's upper left corner.
    """

    scene: Scene
    core: tuple[slice, slice]
    within: tuple[slice, slice]
