"""How RetinaNet is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher, _box_loss
from torchvision.ops import sigmoid_focal_loss

from switchnorm.models.detection.dense_rule import NEITHER, Outputs, OverlapRule, one_hot
from switchnorm.models.detection.losses import Mean


class RetinaRule(OverlapRule):
    """RetinaNet's: anchors by their overlap with objects, focal loss.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, sections 3.2 and 4: overlap 0.5 and more is an
    object's, less than 0.4 background; the sum over a picture's anchors is divided by the number of those that are an
    object's. As in torchvision the best anchor of each object is its own whatever the overlap.

    Args:
        as of `Rule`.
    """

    #: By what boxes are learned, as torchvision calls it: the sum of absolute differences, or "giou", the overlap.
    box_loss = "l1"

    def __init__(
        self,
        first: int = 0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
        candidates: int = 1000,
    ) -> None:
        super().__init__(first, score_threshold, nms_threshold, detections_per_image, candidates)
        self.matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def losses(
        self,
        outputs: Outputs,
        anchors: Tensor,
        matches: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        mean: Mean,
    ) -> dict[str, Tensor]:
        """As of `Rule`."""
        pictures = mean(anchors.new_tensor(len(targets)))
        classes, boxes = [], []
        for logits, deltas, matched, target in zip(
            outputs["cls_logits"], outputs["bbox_regression"], matches, targets, strict=True
        ):
            ours = torch.where(matched >= 0)[0]
            wanted = one_hot(logits, ours, target["labels"][matched[ours]] - 1 + self.first)
            counted = matched != NEITHER
            focal = sigmoid_focal_loss(logits[counted].to(anchors.dtype), wanted[counted], reduction="sum")
            objects = target["boxes"][matched[ours]].to(anchors)
            off = _box_loss(self.box_loss, self.coder, anchors[ours], objects, deltas[ours].to(anchors.dtype))
            classes.append(focal / max(1, len(ours)))
            boxes.append(off / max(1, len(ours)))
        return {
            "classification": torch.stack(classes).sum() / pictures,
            "bbox_regression": torch.stack(boxes).sum() / pictures,
        }

    def scores(self, outputs: Outputs) -> Tensor:
        """As of `Rule`."""
        return outputs["cls_logits"].sigmoid()
