"""Regions of pictures: which are learned from, and which are detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from switchnorm.models.detection.geometry import Geometry
from switchnorm.models.detection.prepared import Detections, Target
from switchnorm.models.detection.sampling import Sampler, draws_of, in_crowd

#: What tells the draws of regions from others, see `Sampler`.
REGIONS = 0x14057B7E
#: The shortest side of a detection in pixels.
SMALLEST = 1e-2


class Drawn(NamedTuple):
    """The regions of a batch that are learned from, of one picture after another.

    Attributes:
        boxes: of each picture, (k, 4) edges.
        labels: (K,) int64, 0 for background.
        objects: of each picture, which of its objects each region belongs to, (k,) int64; without meaning for
            background.
        wanted: (K, 4), the deltas of the regions' objects.
    """

    boxes: list[Tensor]
    labels: Tensor
    objects: list[Tensor]
    wanted: Tensor

    def positive(self) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Boxes of each picture, labels, and objects of each picture, of those that are no background."""
        masks = [labels > 0 for labels in self.labels.split([len(boxes) for boxes in self.boxes])]
        boxes = [each[mask] for each, mask in zip(self.boxes, masks, strict=True)]
        objects = [each[mask] for each, mask in zip(self.objects, masks, strict=True)]
        return boxes, self.labels[self.labels > 0], objects


@dataclass
class Regions:
    """How regions are chosen.

    Attributes:
        geometry: of boxes.
        per_image: regions of a picture that the losses are over.
        positive: the share of these that are objects, if there are as many.
        overlap: of a region with an object from which it is one.
        weights: of the four deltas of a box.
        score_threshold: the score above which a box is a detection.
        nms_threshold: overlap of two detections of a class above which the worse one goes.
        detections_per_image: of all classes together, at most.
    """

    geometry: Geometry
    per_image: int
    positive: float = 0.25
    overlap: float = 0.5
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections_per_image: int = 100
    coder: BoxCoder = field(init=False)
    sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        self.coder = BoxCoder(self.weights)
        self.sampler = Sampler(self.per_image, self.positive, REGIONS)

    @torch.no_grad()
    def draw(self, proposals: Sequence[Tensor], targets: Sequence[Target]) -> Drawn:
        """Which regions the losses are over; the objects themselves are among those that can be drawn.

        Args:
            proposals: of each picture, (P, 4) edges.
            targets: of each picture "boxes" (K, 4), "labels" (K,), and perhaps "ignored" (M, 4) and "draw" ().
        """
        boxes, labels, objects = [], [], []
        for proposed, target in zip(proposals, targets, strict=True):
            candidates = torch.cat([proposed, target["boxes"].to(proposed.dtype)])
            label, matched = self._labelled(candidates, target)
            boxes.append(candidates)
            labels.append(label)
            objects.append(matched)
        wanted = []
        for i, (positive, negative) in enumerate(self.sampler(labels, draws_of(targets))):
            chosen = torch.cat([positive, negative]).sort().values
            boxes[i], labels[i], objects[i] = boxes[i][chosen], labels[i][chosen], objects[i][chosen]
            truth = targets[i]["boxes"].to(boxes[i].dtype)
            truth = truth[objects[i]] if len(truth) else torch.zeros_like(boxes[i])
            wanted.append(self.coder.encode_single(truth, boxes[i]))
        return Drawn(boxes, torch.cat(labels), objects, torch.cat(wanted))

    def _labelled(self, boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """The class of each box (K,), 0 for background and -1 for what does not count, and the index of its object."""
        truth = target["boxes"].to(boxes.dtype)
        if len(truth) == 0:
            labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
            matched = labels
        else:
            overlap, matched = box_iou(truth, boxes).max(0)
            labels = torch.where(overlap >= self.overlap, target["labels"][matched], 0)
        crowd = in_crowd(boxes, target)
        return labels if crowd is None else labels.masked_fill(crowd & (labels == 0), -1), matched

    @torch.no_grad()
    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """What is found in each picture.

        Args:
            logits: (P, 1 + C) of all pictures' proposals.
            deltas: (P, 4 (1 + C)).
            proposals: of each picture, (p, 4) edges.
            sizes: height and width of each picture.

        Returns:
            Of each picture "boxes" (M, 4) edges, "labels" (M,) and "scores" (M,), by falling score.
        """
        counts = [len(each) for each in proposals]
        dtype = proposals[0].dtype
        scores = logits.to(dtype).softmax(1).split(counts)
        codes = deltas.unflatten(1, (-1, 4)).to(dtype).split(counts)
        return [self._found(*each) for each in zip(scores, codes, proposals, sizes, strict=True)]

    def _found(self, scores: Tensor, codes: Tensor, proposals: Tensor, size: tuple[int, int]) -> Detections:
        """What is found in one picture: (P, 1 + C) scores, (P, 1 + C, 4) deltas, (P, 4) proposals."""
        region, label = torch.where(scores[:, 1:] > self.score_threshold)
        label = label + 1
        boxes = self.coder.decode_single(codes[region, label], proposals[region])
        boxes = self.geometry.clip(boxes, size)
        found = scores[region, label]
        large = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(1)
        boxes, found, label = boxes[large], found[large], label[large]
        kept = self.geometry.suppress(boxes, found, label, self.nms_threshold)[: self.detections_per_image]
        return {"boxes": boxes[kept], "labels": label[kept], "scores": found[kept]}
