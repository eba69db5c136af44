"""Two-stage detectors by name. To know the names takes no torchvision, whose networks take seconds to import."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec
from switchnorm.models.detection.body import (
    RESIDUAL,
    STRIDES,
    TIMM,
    ResidualBody,
    listed,
    make_body,
    residual_stages,
    some_norm,
)
from switchnorm.models.detection.pyramid import Pyramid
from switchnorm.models.family import Family
from switchnorm.models.parts import at_least_one, init_convolutions

#: Channels of a pyramid where a name does not say them.
WIDTH = 256
#: Objects of COCO.
CLASSES = 80
#: What may stand behind the "+" of a network on a pyramid.
HEADS = ("faster_2fc", "faster_4conv1fc", "mask_4conv1fc", "retina", "fcos")
#: A normalization for each part of a network; None for none.
Norms = Mapping[str, Spec | None]


def pyramid_network(
    body: str,
    width: int | None,
    heads: str,
    *,
    norms: Norms,
    num_classes: int,
    boxes: str = "torchvision",
    in_channels: int = 3,
    anchor_size: float = 32.0,
    box_channels: int = 1024,
    box_beta: float = 1 / 9,
    anchors_per_image: int = 256,
    rois_per_image: int = 512,
    proposals_train: int = 2000,
    proposals_test: int = 1000,
    published_eval: bool = False,
) -> nn.Module:
    """Faster R-CNN or Mask R-CNN on a feature pyramid.

    Args:
        body: as of `make_body`.
        width: channels of the pyramid's maps; None for 256.
        heads: "faster_2fc", "faster_4conv1fc" or "mask_4conv1fc".
        norms: by part: body, neck, box and mask, as far as they have a normalization.
        num_classes: C, without background.
        boxes: the geometry, "torchvision" or "published".
        in_channels: of the pictures.
        anchor_size: side of the anchors of the finest level in pixels; twice as long on each of the next.
        box_channels: of the linear layers in the box head.
        box_beta: where the smooth L1 loss of boxes becomes linear: torchvision's is 1/9, Detectron's 1.
        anchors_per_image, rois_per_image: how many of a picture the losses are over.
        proposals_train, proposals_test: of a picture, of each level before and of all after suppression.
        published_eval: as of `switchnorm.models.detection.published_eval`.

    Raises:
        InputError: a body or geometry that is unknown, a number below 1, a body without normalization.
    """
    from torchvision.models.detection.rpn import RPNHead

    from switchnorm.models.detection.geometry import RATIOS, Geometry
    from switchnorm.models.detection.heads import BoxHead, FourConvOneFc, MaskHead, TwoFc
    from switchnorm.models.detection.pool import RegionPool
    from switchnorm.models.detection.proposals import ProposalNetwork
    from switchnorm.models.detection.regions import Regions
    from switchnorm.models.detection.two_stage import TwoStage

    geometry = Geometry.of(boxes)
    width = WIDTH if width is None else width
    check_numbers(anchor_size, box_beta)
    at_least_one(
        width=width,
        box_channels=box_channels,
        anchors_per_image=anchors_per_image,
        rois_per_image=rois_per_image,
        proposals_train=proposals_train,
        proposals_test=proposals_test,
    )
    stages = make_body(body, norms["body"], in_channels=in_channels)
    strides = (*STRIDES, 2 * STRIDES[-1])
    sizes = [(anchor_size * 2**level,) for level in range(len(strides))]
    rpn = ProposalNetwork(
        geometry.anchors(sizes, strides),
        RPNHead(width, len(RATIOS)),
        per_image=anchors_per_image,
        before=(proposals_train, proposals_test),
        after=(proposals_train, proposals_test),
        geometry=geometry,
    )
    maps = [f"p{level}" for level in range(2, 6)]
    pools = [RegionPool(maps, STRIDES, side, 2, geometry) for side in (7, 14)]
    if heads == "faster_2fc":
        box: BoxHead = TwoFc(pools[0], width, box_channels, num_classes)
    else:
        box = FourConvOneFc(pools[0], width, box_channels, num_classes, norms["box"])
    mask = MaskHead(pools[1], width, num_classes, norms["mask"]) if heads.startswith("mask") else None
    return TwoStage(
        stages,
        Pyramid(stages.channels, width, norms["neck"]),  # type: ignore[arg-type]  # every body has channels
        rpn,
        box,
        mask,
        Regions(geometry, rois_per_image),
        num_classes,
        box_beta=box_beta,
        published_eval=published_eval,
    )


def last_stage_network(
    body: str,
    *,
    norms: Norms,
    num_classes: int,
    boxes: str = "torchvision",
    in_channels: int = 3,
    anchor_size: float = 32.0,
    box_beta: float = 1 / 9,
    anchors_per_image: int = 256,
    rois_per_image: int = 512,
    proposals_train: int = 2000,
    proposals_test: int = 1000,
    published_eval: bool = False,
) -> nn.Module:
    """Faster R-CNN on the map of the third stage, with the fourth as its box head ("C4").

    Anchors of five sizes, each twice the one before, lie on the one map; up to 12,000 proposals of a picture are
    suppressed in training and 6,000 in evaluation (Detectron's numbers). Regions are pooled to 14x14, with as many
    points as they have pixels.

    Args and errors as of `pyramid_network`.
    """
    from torchvision.models.detection.rpn import RPNHead

    from switchnorm.models.detection.geometry import RATIOS, Geometry
    from switchnorm.models.detection.heads import LastStage
    from switchnorm.models.detection.pool import RegionPool
    from switchnorm.models.detection.proposals import ProposalNetwork
    from switchnorm.models.detection.regions import Regions
    from switchnorm.models.detection.two_stage import TwoStage

    geometry = Geometry.of(boxes)
    check_numbers(anchor_size, box_beta)
    at_least_one(
        anchors_per_image=anchors_per_image,
        rois_per_image=rois_per_image,
        proposals_train=proposals_train,
        proposals_test=proposals_test,
    )
    box_norm = norms["box"]
    if box_norm is None:
        raise InputError("norms.box 'none' is impossible, for the head is a stage of the body; the nearest is 'bn'")
    stages = residual_stages(body, some_norm(norms["body"]), in_channels=in_channels)
    head = residual_stages(body, box_norm)
    init_convolutions(head)
    channels, stride = stages.channels[2], STRIDES[2]
    sizes = [anchor_size * 2**number for number in range(5)]
    rpn = ProposalNetwork(
        geometry.anchors([sizes], [stride]),
        RPNHead(channels, len(sizes) * len(RATIOS)),
        per_image=anchors_per_image,
        before=(12_000, 6_000),
        after=(proposals_train, proposals_test),
        geometry=geometry,
    )
    pool = RegionPool(["c4"], [stride], 14, 0, geometry)
    return TwoStage(
        ResidualBody(stages, last=3),
        None,
        rpn,
        LastStage(pool, head.layer4, stages.channels[3], num_classes),
        None,
        Regions(geometry, rois_per_image),
        num_classes,
        box_beta=box_beta,
        published_eval=published_eval,
    )


def check_numbers(anchor_size: float, box_beta: float = 1.0) -> None:
    """Raise `InputError` for options that are no lengths."""
    for name, value, usual in (("anchor_size", anchor_size, 32.0), ("box_beta", box_beta, 0.11)):
        if not 0 < value < math.inf:
            raise InputError(f"{name} {value!r} is impossible; it must be above 0 and finite, as {usual}")


def pyramid_families(
    heads: str, build: Callable[..., nn.Module], parts: tuple[str, ...], norms: Mapping[str, str] | None = None
) -> tuple[Family, Family]:
    """Networks on a pyramid: "BODY_fpn+HEADS", or "BODY_fpnWIDTH+HEADS"; bodies of timm are a family of their own.

    Args:
        heads: what stands behind the "+".
        build: as of `Family`; the body, the width or None, and the heads are its positional arguments.
        parts: that have a normalization of their own.
        norms: as of `Family`; bodies of timm are as they are built where no norm is asked for.
    """
    usual = norms or {}

    def family(bodies: str, names: tuple[str, ...], norms: Mapping[str, str]) -> Family:
        pattern = rf"({bodies})_fpn(\d+)?\+({heads})"
        return Family(pattern, build, names, num_classes=CLASSES, task="detection", parts=parts, norms=norms)

    names = tuple(f"{body}_fpn+{heads}" for body in listed())
    return family(RESIDUAL, names, usual), family(TIMM, (), {"body": "none", **usual})


FAMILIES: tuple[Family, ...] = (
    *pyramid_families("faster_2fc", pyramid_network, ("body", "neck")),
    *pyramid_families("faster_4conv1fc", pyramid_network, ("body", "neck", "box")),
    *pyramid_families("mask_4conv1fc", pyramid_network, ("body", "neck", "box", "mask")),
    Family(
        rf"({RESIDUAL})_c4\+faster",
        last_stage_network,
        tuple(f"{body}_c4+faster" for body in listed()),
        num_classes=CLASSES,
        task="detection",
        parts=("body", "box"),
    ),
)
