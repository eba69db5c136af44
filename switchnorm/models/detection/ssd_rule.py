"""How SSD is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, SSDMatcher

from switchnorm.models.detection.dense_rule import BACKGROUND, Outputs, OverlapRule, at_least_one
from switchnorm.models.detection.losses import Mean
from switchnorm.models.detection.traced import best


class SsdRule(OverlapRule):
    """SSD's: default boxes by their overlap, and of the background three times as many as of objects, the worst.

    Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2; numbers as in torchvision. The background
    is a class of its own, in the first column.

    Args:
        as of `Rule`; `candidates` are of each class.
    """

    #: How many default boxes of the background are learned from for one of an object.
    negatives = 3.0

    def __init__(
        self,
        first: int = 1,
        score_threshold: float = 0.01,
        nms_threshold: float = 0.45,
        detections_per_image: int = 200,
        candidates: int = 400,
    ) -> None:
        super().__init__(first, score_threshold, nms_threshold, detections_per_image, candidates)
        self.matcher = SSDMatcher(0.5)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))

    def losses(
        self,
        outputs: Outputs,
        anchors: Tensor,
        matches: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        mean: Mean,
    ) -> dict[str, Tensor]:
        """As of `Rule`."""
        classes, boxes, count = [], [], 0
        for logits, deltas, matched, target in zip(
            outputs["cls_logits"], outputs["bbox_regression"], matches, targets, strict=True
        ):
            ours = torch.where(matched >= 0)[0]
            count += len(ours)
            deltas_wanted = self.coder.encode_single(target["boxes"][matched[ours]].to(anchors), anchors[ours])
            boxes.append(F.smooth_l1_loss(deltas[ours].to(anchors.dtype), deltas_wanted, reduction="sum"))
            wanted = torch.zeros_like(matched)
            wanted[ours] = target["labels"][matched[ours]]
            each = F.cross_entropy(logits.to(anchors.dtype), wanted, reduction="none")
            background = torch.where(matched == BACKGROUND)[0]
            worst = each[background].detach().sort(descending=True, stable=True).indices
            kept = background[worst[: math.ceil(self.negatives * len(ours))]]
            classes.append(each[ours].sum() + each[kept].sum())
        divisor = at_least_one(anchors.new_tensor(count), mean)
        return {
            "bbox_regression": torch.stack(boxes).sum() / divisor,
            "classification": torch.stack(classes).sum() / divisor,
        }

    def scores(self, outputs: Outputs) -> Tensor:
        """As of `Rule`."""
        return outputs["cls_logits"].softmax(1)

    def detections(
        self, outputs: Outputs, anchors: Tensor, levels: Sequence[int], sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """As of `Rule`; levels are all looked at together."""
        return super().detections(outputs, anchors, [len(anchors)], sizes)

    def _candidates(self, scores: Tensor) -> Tensor:
        """As of `Rule`, of each class."""
        highest = scores.topk(min(self.candidates, len(scores)), 0).indices
        places = highest * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
        return places.T[self.score_threshold < scores.gather(0, highest).T]

    def traced(
        self, outputs: Outputs, anchors: Tensor, levels: Sequence[Any], size: tuple[Any, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of `Rule`; levels are all looked at together."""
        return super().traced(outputs, anchors, [anchors.shape[0]], size)

    def _traced_candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Rule`, of each class."""
        values, highest = best(scores, self.candidates)
        places = highest * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
        return values.T.flatten(), places.T.flatten()
