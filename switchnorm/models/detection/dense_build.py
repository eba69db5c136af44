"""Detectors without proposals by name. To know the names takes no torchvision."""

from __future__ import annotations

from typing import Any

from torch import nn

from switchnorm.models.detection.body import make_body
from switchnorm.models.detection.build import WIDTH, Norms, check_numbers, pyramid_families
from switchnorm.models.family import Family
from switchnorm.models.parts import at_least_one


def retina_network(
    body: str,
    width: int | None,
    heads: str,
    *,
    norms: Norms,
    num_classes: int,
    in_channels: int = 3,
    anchor_size: float = 32.0,
) -> nn.Module:
    """RetinaNet.

    Args:
        body: as of `make_body`.
        width: channels of the pyramid's maps and of the head; None for 256.
        heads: "retina".
        norms: by part: body, neck and head; the published network has none in the last two.
        num_classes: C, without background.
        in_channels: of the pictures.
        anchor_size: side of the smallest anchors of the finest level in pixels; twice as long on each of the next.

    Raises:
        InputError: an unknown body, a number below 1, an anchor without a side.
    """
    from switchnorm.models.detection.retina import retina

    check_numbers(anchor_size)
    return retina(*_shared(body, width, norms, in_channels), num_classes, anchor_size=anchor_size)


def fcos_network(
    body: str, width: int | None, heads: str, *, norms: Norms, num_classes: int, in_channels: int = 3
) -> nn.Module:
    """FCOS; arguments and errors as of `retina_network`. Its head has Group Normalization where none is asked for."""
    from switchnorm.models.detection.fcos import fcos

    return fcos(*_shared(body, width, norms, in_channels), num_classes)


def _shared(body: str, width: int | None, norms: Norms, in_channels: int) -> tuple[nn.Module, int, Norms]:
    """The body, the width and the norms."""
    width = WIDTH if width is None else width
    at_least_one(width=width)
    return make_body(body, norms["body"], in_channels=in_channels), width, norms


_PARTS: Any = ("body", "neck", "head")
FAMILIES: tuple[Family, ...] = (
    *pyramid_families("retina", retina_network, _PARTS),
    # The published head: Batch Norm's running statistics would be over maps of five scales, which differ.
    *pyramid_families("fcos", fcos_network, _PARTS, {"head": "gn"}),
)
