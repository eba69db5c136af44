"""Detectors without proposals: every place of every map is judged, by one of the rules of this file.

A rule says what a place should give, and what its outputs stand for. Heads of this library and of torchvision are
judged by the same rules; as in torchvision a head gives a dictionary of "cls_logits" (N, A, columns),
"bbox_regression" (N, A, 4) and perhaps "bbox_ctrness" (N, A, 1), for the A anchors of all levels, level by level.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder, Matcher, SSDMatcher, _box_loss
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, generalized_box_iou_loss, sigmoid_focal_loss

from switchnorm.errors import InputError
from switchnorm.models.detection.losses import Mean, alone
from switchnorm.models.detection.prepared import Prepared
from switchnorm.models.detection.sampling import in_crowd

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
        best = flat[kept].topk(min(self.candidates, len(kept))).indices
        return kept[best]


class RetinaRule(Rule):
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
        self.matcher: Any = Matcher(0.5, 0.4, allow_low_quality_matches=True)
        self.coder: Any = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def match(self, anchors: Tensor, levels: Sequence[int], target: Mapping[str, Tensor]) -> Tensor:
        """As of `Rule`."""
        found: Tensor = self.matcher(box_iou(target["boxes"].to(anchors), anchors))
        return found

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
            wanted = _one_hot(logits, ours, target["labels"][matched[ours]] - 1 + self.first)
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

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """As of `Rule`."""
        found: Tensor = self.coder.decode_single(deltas, anchors)
        return found


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
            wanted = _one_hot(logits[i], ours, target["labels"][matched[ours]] - 1 + self.first)
            focal.append(sigmoid_focal_loss(logits[i][counted].to(anchors.dtype), wanted[counted], reduction="sum"))
            boxes = target["boxes"][matched[ours]].to(anchors)
            found = self.decode(deltas[i][ours].to(anchors.dtype), anchors[ours])
            off.append(generalized_box_iou_loss(found, boxes, reduction="sum"))
            right = self._centreness(boxes, anchors[ours])
            guessed = centred[i][ours, 0].to(anchors.dtype)
            centre.append(F.binary_cross_entropy_with_logits(guessed, right, reduction="sum"))
        divisor = at_least_one(anchors.new_tensor(count), mean)
        return {
            "classification": torch.stack(focal).sum() / divisor,
            "bbox_regression": torch.stack(off).sum() / divisor,
            "bbox_ctrness": torch.stack(centre).sum() / divisor,
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


class SsdRule(Rule):
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
        self.matcher: Any = SSDMatcher(0.5)
        self.coder: Any = BoxCoder((10.0, 10.0, 5.0, 5.0))

    def match(self, anchors: Tensor, levels: Sequence[int], target: Mapping[str, Tensor]) -> Tensor:
        """As of `Rule`."""
        found: Tensor = self.matcher(box_iou(target["boxes"].to(anchors), anchors))
        return found

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

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """As of `Rule`."""
        found: Tensor = self.coder.decode_single(deltas, anchors)
        return found

    def detections(
        self, outputs: Outputs, anchors: Tensor, levels: Sequence[int], sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """As of `Rule`; levels are all looked at together."""
        return super().detections(outputs, anchors, [len(anchors)], sizes)

    def _candidates(self, scores: Tensor) -> Tensor:
        """As of `Rule`, of each class."""
        best = scores.topk(min(self.candidates, len(scores)), 0).indices
        places = best * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
        return places.T[self.score_threshold < scores.gather(0, best).T]


def at_least_one(count: Tensor, mean: Mean) -> Tensor:
    """What a sum over so many is divided by, so that the mean over processes is the sum of all over their count or 1.

    Args:
        count: of this process, 0 or more.
        mean: over processes.
    """
    found = mean(count)
    return torch.where(found > 0, found, 1)


def _one_hot(logits: Tensor, places: Tensor, columns: Tensor) -> Tensor:
    """As many zeros as there are logits (A, columns), and a 1 in the given column of each of the places."""
    found = torch.zeros_like(logits, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    found[places, columns] = 1
    return found


class DenseDetector(nn.Module):
    """What detectors without proposals share: torchvision's calling convention.

    Args:
        transform: makes one padded batch of the pictures.
        anchor_generator: of all maps' anchors, torchvision's or one like it.
        rule: of the outputs.

    Attributes:
        output_in_training: that training has another output, as of this library's decoders.
        mean_over_processes: of a count, by which losses are divided; a process alone has the count itself.
        score_threshold, nms_threshold, detections_per_image: as of `Rule`.
    """

    output_in_training: ClassVar[bool] = True

    def __init__(self, transform: Prepared, anchor_generator: Any, rule: Rule) -> None:
        super().__init__()
        self.transform = transform
        self.anchor_generator = anchor_generator
        self.rule = rule
        self.mean_over_processes: Mean = alone

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the maps by their names, the finest first."""
        raise NotImplementedError

    def outputs(self, maps: Mapping[str, Tensor]) -> Outputs:
        """The maps -> the head's outputs, for all anchors."""
        raise NotImplementedError

    def anchors(self, images: ImageList, maps: Sequence[Tensor]) -> Tensor:
        """(A, 4) on the padded pictures; in float32 at least, for fewer bits do not tell a place from the next."""
        dtype = torch.promote_types(images.tensors.dtype, torch.float32)
        like = [images.tensors.new_empty((), dtype=dtype).expand(each.shape) for each in maps]
        found: Tensor = self.anchor_generator(ImageList(images.tensors, images.image_sizes[:1]), like)[0]
        return found

    def forward(
        self, images: Tensor | list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Pictures -> in training the losses, in evaluation what is found on each.

        Args:
            images: a list of (3, h, w), or one padded (N, 3, H, W) with "size" in the targets.
            targets: of each picture: "boxes" (K, 4) and "labels" (K,) from 1, perhaps "ignored" (M, 4).
        """
        if self.training and targets is None:
            raise InputError("a detector in training mode needs targets; call eval() for detections")
        batch, targets = self.transform(images, targets)
        named = self.features(batch.tensors)
        maps = list(named.values())
        outputs = self.outputs(named)
        anchors = self.anchors(batch, maps)
        levels = self.levels(maps)
        if self.training:
            assert targets is not None
            matches = self.rule.matches(anchors, levels, targets)
            return self.rule.losses(outputs, anchors, matches, targets, self.mean_over_processes)
        found = self.rule.detections(outputs, anchors, levels, batch.image_sizes)
        return self.transform.postprocess(found, batch.image_sizes)

    def levels(self, maps: Sequence[Tensor]) -> list[int]:
        """How many anchors each map has."""
        per_place = self.anchor_generator.num_anchors_per_location()
        return [count * each.shape[2] * each.shape[3] for count, each in zip(per_place, maps, strict=True)]

    @property
    def score_threshold(self) -> float:
        """As of `Rule`."""
        return self.rule.score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        self.rule.score_threshold = value

    @property
    def nms_threshold(self) -> float:
        """As of `Rule`."""
        return self.rule.nms_threshold

    @nms_threshold.setter
    def nms_threshold(self, value: float) -> None:
        self.rule.nms_threshold = value

    @property
    def detections_per_image(self) -> int:
        """As of `Rule`."""
        return self.rule.detections_per_image

    @detections_per_image.setter
    def detections_per_image(self, value: int) -> None:
        self.rule.detections_per_image = value
