"""What detectors without proposals are trained and evaluated by: a rule for the outputs at every place of every map.

A rule says what a place should give, and what its outputs stand for. Heads of this library and of torchvision are
judged by the same rules; as in torchvision a head gives a dictionary of "cls_logits" (N, A, columns),
"bbox_regression" (N, A, 4) and perhaps "bbox_ctrness" (N, A, 1), for the A anchors of all levels, level by level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from switchnorm.models.detection.geometry import GEOMETRIES
from switchnorm.models.detection.losses import Mean
from switchnorm.models.detection.sampling import in_crowd
from switchnorm.models.detection.traced import best, suppressed

#: A head's outputs by their names.
Outputs = Mapping[str, Tensor]

#: Matches of an anchor that is none of an object: background, and neither one nor the other.
BACKGROUND, NEITHER = Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS


class Rule(ABC):
    """What the outputs at an anchor should be, and what they stand for.

    Args:
        first: the column of the first class: 0, or 1 where a head has one for the background as torchvision's have.
        score_threshold: detections of a lower score are left out.
        nms_threshold: of detections of one class whose boxes overlap more, the better one stays.
        detections_per_image: how many stay at most.
        candidates: how many of each level are looked at, the best.
    """

    def __init__(
        self,
        first: int,
        score_threshold: float,
        nms_threshold: float,
        detections_per_image: int,
        candidates: int = 1000,
    ) -> None:
        self.first = first
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.detections_per_image = detections_per_image
        self.candidates = candidates

    @abstractmethod
    def match(self, anchors: Tensor, levels: Sequence[int], target: Mapping[str, Tensor]) -> Tensor:
        """(A, 4) anchors -> (A,) which object each is for, `BACKGROUND` or `NEITHER`; there is one object or more."""

    def ignored(self, anchors: Tensor, target: Mapping[str, Tensor]) -> Tensor | None:
        """Which anchors (A, 4) do not count as background, (A,) bool; None where there are no such regions."""
        return in_crowd(anchors, target)

    @abstractmethod
    def losses(
        self,
        outputs: Outputs,
        anchors: Tensor,
        matches: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        mean: Mean,
    ) -> dict[str, Tensor]:
        """The losses by their names in torchvision.

        Args:
            outputs: of the head.
            anchors: (A, 4).
            matches: of each picture, as of `match`.
            targets: of each picture.
            mean: of a count over all processes.
        """

    @abstractmethod
    def scores(self, outputs: Outputs) -> Tensor:
        """The outputs of a picture -> (A, columns) in [0, 1]."""

    @abstractmethod
    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(K, 4) outputs for (K, 4) anchors -> boxes (K, 4)."""

    def matches(self, anchors: Tensor, levels: Sequence[int], targets: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
        """What the anchors of each picture are for, as of `match`; also without objects, and with ignored regions."""
        found = []
        for target in targets:
            if len(target["boxes"]):
                matched = self.match(anchors, levels, target)
            else:
                matched = torch.full((len(anchors),), BACKGROUND, dtype=torch.int64, device=anchors.device)
            ignored = self.ignored(anchors, target)
            if ignored is not None:
                matched = matched.masked_fill((matched == BACKGROUND) & ignored, NEITHER)
            found.append(matched)
        return found

    def detections(
        self, outputs: Outputs, anchors: Tensor, levels: Sequence[int], sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """What is found on each picture: "boxes" (M, 4), "labels" (M,) from 1 and "scores" (M,), the best first.

        Args:
            outputs: of the head.
            anchors: (A, 4).
            levels: how many of these each level has.
            sizes: height and width of each picture, without padding.
        """
        return [
            self._found({name: value[i].to(anchors.dtype) for name, value in outputs.items()}, anchors, levels, size)
            for i, size in enumerate(sizes)
        ]

    def _found(
        self, outputs: Outputs, anchors: Tensor, levels: Sequence[int], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """What is found on one picture; outputs in the precision of the anchors."""
        all_scores = self.scores(outputs)[:, self.first :]
        boxes, scores, labels = [], [], []
        for level in torch.arange(len(anchors), device=anchors.device).split(list(levels)):
            each = self._candidates(all_scores[level])
            columns = all_scores.shape[1]
            chosen = level[each // columns]
            scores.append(all_scores[level].flatten()[each])
            labels.append(each % columns + 1)
            decoded = self.decode(outputs["bbox_regression"][chosen], anchors[chosen])
            boxes.append(clip_boxes_to_image(decoded, size))
        found = {"boxes": torch.cat(boxes), "labels": torch.cat(labels), "scores": torch.cat(scores)}
        kept = batched_nms(found["boxes"], found["scores"], found["labels"], self.nms_threshold)
        return {name: value[kept[: self.detections_per_image]] for name, value in found.items()}

    def _candidates(self, scores: Tensor) -> Tensor:
        """(A, columns) of a level -> the places in it, flattened, of those that are looked at."""
        flat = scores.flatten()
        kept = torch.where(flat > self.score_threshold)[0]
        highest = flat[kept].topk(min(self.candidates, len(kept))).indices
        return kept[highest]

    def traced(
        self, outputs: Outputs, anchors: Tensor, levels: Sequence[Any], size: tuple[Any, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `detections` of one picture, for tracers, see `OnePicture`: boxes, labels and scores.

        Args:
            outputs: of the head, (A, columns) each, in the precision of the anchors.
            anchors: (A, 4).
            levels: how many of these each level has.
            size: height and width of the picture.
        """
        all_scores = self.scores(outputs)[:, self.first :]
        columns = all_scores.shape[1]
        scores, places, first = [], [], 0
        for count in levels:
            values, each = self._traced_candidates(all_scores[first : first + count])
            scores.append(values)
            places.append(each + columns * first)
            first = first + count
        good = torch.where(torch.cat(scores) > self.score_threshold)[0]
        place, found = torch.cat(places)[good], torch.cat(scores)[good]
        anchor = torch.div(place, columns, rounding_mode="floor")
        boxes = self.decode(outputs["bbox_regression"][anchor], anchors[anchor])
        boxes, labels = GEOMETRIES["torchvision"].clip(boxes, size), place % columns + 1
        kept = suppressed(boxes, found, labels, columns + 1, self.nms_threshold, size)[: self.detections_per_image]
        return boxes[kept], labels[kept], found[kept]

    def _traced_candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """As `_candidates`, whatever their scores: these and the places, of a fixed number."""
        return best(scores.flatten(), self.candidates)


def at_least_one(count: Tensor, mean: Mean) -> Tensor:
    """What a sum over so many is divided by, so that the mean over processes is the sum of all over their count or 1.

    Args:
        count: of this process, 0 or more.
        mean: over processes.
    """
    found = mean(count)
    return torch.where(found > 0, found, 1)


class OverlapRule(Rule):
    """A rule that matches anchors by their overlap with objects, and codes boxes by their anchors.

    Attributes:
        matcher: of torchvision, from overlaps (K, A) to the object of each anchor.
        coder: of torchvision, between boxes and deltas.
    """

    matcher: Any
    coder: Any

    def match(self, anchors: Tensor, levels: Sequence[int], target: Mapping[str, Tensor]) -> Tensor:
        """As of `Rule`."""
        found: Tensor = self.matcher(box_iou(target["boxes"].to(anchors), anchors))
        return found

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """As of `Rule`."""
        found: Tensor = self.coder.decode_single(deltas, anchors)
        return found


def one_hot(logits: Tensor, places: Tensor, columns: Tensor) -> Tensor:
    """As many zeros as there are logits (A, columns), and a 1 in the given column of each of the places."""
    found = torch.zeros_like(logits, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    found[places, columns] = 1
    return found
