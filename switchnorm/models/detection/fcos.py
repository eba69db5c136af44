"""FCOS: a body, a pyramid, and a head that judges every place by the object that it lies in."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.layers import Spec
from switchnorm.models.detection.dense_pyramid import DensePyramid
from switchnorm.models.detection.fcos_rule import FcosRule
from switchnorm.models.detection.retina import LEVELS, DenseHead, OwnDense, per_anchor

#: Stride of the finest level.
FINEST = 8.0


class FcosHead(DenseHead):
    """As of `DenseHead`, with one anchor at every place; the branch of the boxes gives the centre-ness too.

    Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector", PAMI 2021, section 3: distances to the four
    sides are positive, by ReLU, and in strides of the level.
    """

    def __init__(self, width: int, norm: Spec | None, num_classes: int) -> None:
        super().__init__(width, norm, num_classes, 1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.start()

    def level(self, x: Tensor) -> dict[str, Tensor]:
        """As of `DenseHead`."""
        boxes = self.box_convs(x)
        return {
            "cls_logits": per_anchor(self.cls_logits(self.cls_convs(x)), self.num_classes),
            "bbox_regression": per_anchor(F.relu(self.bbox_pred(boxes)), 4),
            "bbox_ctrness": per_anchor(self.centerness(boxes), 1),
        }


def fcos(body: nn.Module, width: int, norms: Mapping[str, Spec | None], num_classes: int) -> OwnDense:
    """FCOS; arguments as of `retina`. Published heads have Group Normalization."""
    sizes = [[FINEST * 2**level] for level in range(LEVELS)]
    neck = DensePyramid(body.channels, width, norms["neck"], of_stage=False)  # type: ignore[arg-type]
    return OwnDense(body, neck, FcosHead(width, norms["head"], num_classes), (sizes, (1.0,)), FcosRule(), num_classes)
