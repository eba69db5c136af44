"""RetinaNet: a body, a pyramid, and a head that judges nine anchors at every place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from switchnorm.layers import Spec
from switchnorm.models.detection.dense import DenseDetector
from switchnorm.models.detection.dense_pyramid import DensePyramid
from switchnorm.models.detection.dense_rule import Outputs, Rule
from switchnorm.models.detection.geometry import GEOMETRIES, RATIOS
from switchnorm.models.detection.prepared import Prepared
from switchnorm.models.detection.pyramid import rectified
from switchnorm.models.detection.retina_rule import RetinaRule

#: 3x3 convolutions of each branch of a head.
CONVOLUTIONS = 4
#: The score that every class has at the start, of which the loss of so many background anchors stays finite.
PRIOR = 0.01
#: Sides of the anchors of a level, over that of its smallest.
OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
#: Levels of the pyramid.
LEVELS = 5


class DenseHead(nn.Module):
    """Two branches of four convolutions each, with a normalization and ReLU, the same for the maps of all levels.

    All weights start at N(0, 0.01²) and biases at 0, but for those of the classes, which start at a score of 0.01 (Lin
    et al., ICCV 2017, section 4.1).

    Args:
        width: channels of the maps, and of the convolutions.
        norm: the normalization; None for convolutions with a bias.
        num_classes: C.
        anchors: at every place.
    """

    def __init__(self, width: int, norm: Spec | None, num_classes: int, anchors: int) -> None:
        super().__init__()
        self.cls_convs, self.box_convs = (
            nn.Sequential(*(each for _ in range(CONVOLUTIONS) for each in rectified(norm, width, width, 3)))
            for _ in range(2)
        )
        self.cls_logits = nn.Conv2d(width, anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, anchors * 4, 3, padding=1)
        self.num_classes = num_classes
        self.start()

    def start(self) -> None:
        """Draw the weights."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> Outputs:
        """Maps (N, width, h, w) of all levels -> what `DenseDetector` says of outputs."""
        levels = [self.level(each) for each in maps]
        return {name: torch.cat([level[name] for level in levels], 1) for name in levels[0]}

    def level(self, x: Tensor) -> dict[str, Tensor]:
        """The map of one level (N, width, h, w) -> the outputs of its anchors."""
        return {
            "cls_logits": per_anchor(self.cls_logits(self.cls_convs(x)), self.num_classes),
            "bbox_regression": per_anchor(self.bbox_pred(self.box_convs(x)), 4),
        }


class OwnDense(DenseDetector):
    """A detector without proposals of a body, a pyramid and a head of this library.

    Args:
        body: from pictures to the maps of four stages; has their `channels`.
        neck: the pyramid.
        head: of its maps.
        anchors: the sides of each level's, and their ratios, height over width.
        rule: of the outputs.
        num_classes: C.
    """

    def __init__(
        self,
        body: nn.Module,
        neck: DensePyramid,
        head: DenseHead,
        anchors: tuple[Sequence[Sequence[float]], Sequence[float]],
        rule: Rule,
        num_classes: int,
    ) -> None:
        sizes, ratios = anchors
        generator = AnchorGenerator(tuple(map(tuple, sizes)), (tuple(ratios),) * len(sizes))
        super().__init__(Prepared(num_classes, GEOMETRIES["torchvision"]), generator, rule)
        self.body, self.neck, self.head = body, neck, head

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> "p3" ... "p7", (N, width, H / s, W / s) each, s from 8 to 128, sides rounded up."""
        maps: dict[str, Tensor] = self.neck(self.body(images))
        return maps

    def outputs(self, maps: Mapping[str, Tensor]) -> Outputs:
        """As of `DenseDetector`."""
        found: Outputs = self.head(list(maps.values()))
        return found


def retina(
    body: nn.Module,
    width: int,
    norms: Mapping[str, Spec | None],
    num_classes: int,
    *,
    anchor_size: float = 32.0,
) -> OwnDense:
    """RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017).

    Args:
        body: as of `OwnDense`.
        width: of the pyramid and the head.
        norms: of "neck" and "head"; None for convolutions with a bias, as published.
        num_classes: C.
        anchor_size: side of the smallest anchors of the finest level, in pixels; twice as much on each next one.
    """
    sizes = [[anchor_size * 2**level * octave for octave in OCTAVES] for level in range(LEVELS)]
    neck = DensePyramid(body.channels, width, norms["neck"], of_stage=True)  # type: ignore[arg-type]
    head = DenseHead(width, norms["head"], num_classes, len(OCTAVES) * len(RATIOS))
    return OwnDense(body, neck, head, (sizes, RATIOS), RetinaRule(), num_classes)


def per_anchor(x: Tensor, numbers: int) -> Tensor:
    """(N, A * numbers, h, w) -> (N, h * w * A, numbers), in the order of the anchors."""
    count, _, height, width = x.shape
    return x.view(count, -1, numbers, height, width).permute(0, 3, 4, 1, 2).reshape(count, -1, numbers)
