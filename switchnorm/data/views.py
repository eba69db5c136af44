"""Several views of a picture, over which evaluation can average a network's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

#: "centre": one view, the batch is (N, C, H, W). "flip": it and its mirror. "ten": the crops at the four corners and
#: the centre, and their mirrors (Krizhevsky, Sutskever and Hinton, 2012, section 4.1). These two are (N, V, C, H, W).
Views = Literal["centre", "flip", "ten"]


def with_mirrors(views: Tensor) -> Tensor:
    """Views (N, V, C, H, W), followed by the mirror of each in the same order: (N, 2 * V, C, H, W)."""
    import torch  # here, because the command line asks this module for the names of the views only

    return torch.cat([views, views.flip(-1)], dim=1)
