"""How FCOS is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from switchnorm.models.detection.dense_rule import BACKGROUND, NEITHER, Outputs, Rule, one_hot
from switchnorm.models.detection.losses import Mean, divisor


class FcosRule(Rule):
    """FCOS': points by the object that they lie in, and how near to its centre.

    Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector", PAMI 2021: a point is the smallest object's in
    whose central part it lies, within 1.5 strides of the centre, if the level is for its size (section 3.2); the
    centre-ness of equation 3 is learned beside; boxes by the generalized overlap. An anchor is a square of a stride
    about the point. Losses are divided by the number of points that are an object's.

    Args:
        as of `Rule`; `score_threshold` is of the root of score and centre-ness, as torchvision has it.
    """

    #: How near to the centre points must be, in strides.
    radius = 1.5
    #: The largest distance to a side of the box that a level is for, in strides: more than the first, at most the last.
    reach = (4.0, 8.0)

    def __init__(
        self,
        first: int = 0,
        score_threshold: float = 0.2,
        nms_threshold: float = 0.6,
        detections_per_image: int = 100,
        candidates: int = 1000,
    ) -> None:
        super().__init__(first, score_threshold, nms_threshold, detections_per_image, candidates)
        self.coder: Any = BoxLinearCoder(normalize_by_size=True)

    def match(self, anchors: Tensor, levels: Sequence[int], target: Mapping[str, Tensor]) -> Tensor:
        """As of `Rule`."""
        boxes = target["boxes"].to(anchors)
        points, strides = (anchors[:, None, :2] + anchors[:, None, 2:]) / 2, anchors[:, 2:3] - anchors[:, 0:1]
        sides = torch.cat([points - boxes[None, :, :2], boxes[None, :, 2:] - points], 2)  # left, top, right, bottom
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        central = (points - centres).abs().amax(2) < self.radius * strides
        lower, upper = self.reach[0] * strides, self.reach[1] * strides
        lower[: levels[0]] = 0  # the finest level takes all that is smaller, the coarsest all that is larger
        upper[len(upper) - levels[-1] :] = torch.inf
        farthest = sides.amax(2)
        fits = central & (sides.amin(2) > 0) & (farthest > lower) & (farthest < upper)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        smallest, chosen = torch.where(fits, areas, torch.inf).min(1)
        return chosen.masked_fill(smallest.isinf(), BACKGROUND)

    def ignored(self, anchors: Tensor, target: Mapping[str, Tensor]) -> Tensor | None:
        """As of `Rule`: those whose points are inside."""
        regions = target.get("ignored")
        if regions is None or regions.numel() == 0:
            return None
        points = (anchors[:, None, :2] + anchors[:, None, 2:]) / 2
        return ((points > regions[:, :2]) & (points < regions[:, 2:])).all(2).any(1)

    def losses(
        self,
        outputs: Outputs,
        anchors: Tensor,
        matches: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        mean: Mean,
    ) -> dict[str, Tensor]:
        """As of `Rule`."""
        logits, deltas, centred = (outputs[name] for name in ("cls_logits", "bbox_regression", "bbox_ctrness"))
        focal, off, centre, count = [], [], [], 0
        for i, (matched, target) in enumerate(zip(matches, targets, strict=True)):
            ours, counted = torch.where(matched >= 0)[0], matched != NEITHER
            count += len(ours)
            wanted = one_hot(logits[i], ours, target["labels"][matched[ours]] - 1 + self.first)
            focal.append(sigmoid_focal_loss(logits[i][counted].to(anchors.dtype), wanted[counted], reduction="sum"))
            boxes = target["boxes"][matched[ours]].to(anchors)
            found = self.decode(deltas[i][ours].to(anchors.dtype), anchors[ours])
            off.append(generalized_box_iou_loss(found, boxes, reduction="sum"))
            right = self._centreness(boxes, anchors[ours])
            guessed = centred[i][ours, 0].to(anchors.dtype)
            centre.append(F.binary_cross_entropy_with_logits(guessed, right, reduction="sum"))
        total = divisor(count, mean, anchors, least=1.0)
        return {
            "classification": torch.stack(focal).sum() / total,
            "bbox_regression": torch.stack(off).sum() / total,
            "bbox_ctrness": torch.stack(centre).sum() / total,
        }

    def scores(self, outputs: Outputs) -> Tensor:
        """As of `Rule`: the geometric mean of a class's score and the centre-ness."""
        return (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """As of `Rule`."""
        found: Tensor = self.coder.decode(deltas, anchors)
        return found

    def _centreness(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """(K, 4) boxes in which the (K, 4) anchors' points lie -> (K,) in [0, 1] (equation 3)."""
        points = (anchors[:, :2] + anchors[:, 2:]) / 2
        before, after = points - boxes[:, :2], boxes[:, 2:] - points
        return (torch.minimum(before, after) / torch.maximum(before, after)).prod(1).sqrt()
