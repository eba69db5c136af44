"""A detector as a function of one picture, from tensors to tensors, which tracers can follow at any size.

A detector's own forward pass takes lists of pictures and gives dictionaries; it branches on how much is found. Here
the same parts do the same arithmetic in an order that holds for any picture: a fixed number of candidates is looked at,
those that are missing have a score of -inf, and only then are the good ones kept.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList

from switchnorm.models.detection.regions import SMALLEST
from switchnorm.models.detection.traced import best, grid, padded, suppressed

if TYPE_CHECKING:
    from switchnorm.models.detection.dense import DenseDetector
    from switchnorm.models.detection.geometry import Geometry
    from switchnorm.models.detection.pool import RegionPool
    from switchnorm.models.detection.proposals import ProposalNetwork

#: Names of what is found, and of masks, which networks with a mask head find too.
FOUND, MASKS = ("boxes", "labels", "scores"), "masks"


class OnePicture(nn.Module):
    """What all such functions share.

    Args:
        network: the detector, in evaluation mode; it is not copied.

    Attributes:
        outputs: names of what the forward pass gives.
        smallest: the smallest height and width that it takes, in pixels.
    """

    outputs: tuple[str, ...] = FOUND
    smallest: int = 1
    #: What it computes itself are coordinates and scores, which keep 32 bits where the network has 16.
    of_coordinates: ClassVar[bool] = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """What is found on a picture.

        Args:
            images: (1, C, H, W), normalized, of any size; it is padded here.

        Returns:
            "boxes" (D, 4) edges x1, y1, x2, y2 in its pixels, "labels" (D,) int64 from 1, "scores" (D,) in [0, 1], by
            falling score, and of networks with a mask head "masks" (D, 28, 28), probabilities within the boxes.
        """


class TwoStagePicture(OnePicture):
    """That of a detector with proposals.

    Args:
        network: has `transform`, `features`, `rpn` and `regions`.
        box_pool, mask_pool: cut regions out of the maps; without the second there are no masks.
    """

    def __init__(self, network: nn.Module, box_pool: RegionPool, mask_pool: RegionPool | None = None) -> None:
        super().__init__(network)
        self.box_pool = box_pool
        self.mask_pool = mask_pool
        self.outputs = FOUND if mask_pool is None else (*FOUND, MASKS)

    @abstractmethod
    def classified(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (K, C, side, side) -> class logits (K, 1 + C) and deltas (K, 4 (1 + C))."""

    @abstractmethod
    def masked(self, pooled: Tensor) -> Tensor:
        """Regions (K, C, side, side) -> mask logits (K, 1 + C, 28, 28)."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """As of `OnePicture`."""
        network: Any = self.network
        height, width = images.shape[-2:]
        batch = ImageList(padded(images, network.transform.multiple), [(height, width)])
        maps = network.features(batch.tensors)
        geometry: Geometry = network.regions.geometry
        proposals = self._proposals(network.rpn, batch, maps)
        logits, deltas = self.classified(self.box_pool(maps, _with_another(geometry.corners(proposals))))
        boxes, labels, scores = self._detections(network, logits[:-1], deltas[:-1], proposals, (height, width))
        if self.mask_pool is None:
            return boxes, labels, scores
        masks = self.masked(self.mask_pool(maps, _with_another(geometry.corners(boxes))))
        place = torch.arange(labels.shape[0], device=labels.device) * masks.shape[1] + labels
        chosen = masks.flatten(0, 1).index_select(0, place)
        return boxes, labels, scores, chosen.to(scores.dtype).sigmoid()

    def _proposals(self, rpn: ProposalNetwork, batch: ImageList, features: dict[str, Tensor]) -> Tensor:
        """As of `ProposalNetwork.propose`: (P, 4) edges."""
        maps = list(features.values())
        dtype = torch.promote_types(batch.tensors.dtype, torch.float32)
        anchors = grid(rpn.anchor_generator, batch.tensors, maps, dtype)
        count: int = rpn.pre_nms_top_n()
        scores, boxes, levels, first = [], [], [], 0
        for level, (logits, deltas) in enumerate(zip(*rpn.head(maps), strict=True)):
            flat = logits.permute(0, 2, 3, 1).flatten().to(dtype)
            codes = deltas.permute(0, 2, 3, 1).reshape(-1, 4)
            values, places = best(flat, count)
            boxes.append(rpn.box_coder.decode_single(codes[places].to(dtype), anchors[first + places]))
            scores.append(values)
            levels.append(torch.full_like(places, level))
            first = first + flat.shape[0]
        size = batch.image_sizes[0]
        found, decoded = torch.cat(scores).sigmoid(), rpn.geometry.clip(torch.cat(boxes), size)
        large = ((decoded[:, 2:] - decoded[:, :2]) >= rpn.min_size).all(1)
        # A sigmoid of -inf is 0, as of other numbers too.
        good = torch.where(large & (found >= rpn.score_thresh) & (torch.cat(scores) > -torch.inf))[0]
        decoded, found, level_of = decoded[good], found[good], torch.cat(levels)[good]
        threshold = rpn.geometry.threshold(rpn.nms_thresh)
        kept = suppressed(decoded, found, level_of, len(maps), threshold, size)
        return decoded[kept[: rpn.post_nms_top_n()]]

    def _detections(
        self, network: Any, logits: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[Any, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of `Regions.detect`: boxes, labels and scores."""
        regions = network.regions
        all_scores = logits.to(proposals.dtype).softmax(1)
        region, label = torch.where(all_scores[:, 1:] > regions.score_threshold)
        codes = deltas.to(proposals.dtype).unflatten(1, (-1, 4))[region, label + 1]
        boxes = regions.geometry.clip(regions.coder.decode_single(codes, proposals[region]), size)
        large = torch.where(((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(1))[0]
        boxes, region, label = boxes[large], region[large], label[large] + 1
        scores = all_scores[region, label]
        threshold = regions.geometry.threshold(regions.nms_threshold)
        kept = suppressed(boxes, scores, label, logits.shape[1], threshold, size)[: regions.detections_per_image]
        return boxes[kept], label[kept], scores[kept]


class OwnTwoStagePicture(TwoStagePicture):
    """That of this library's `TwoStage`."""

    def classified(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """As of `TwoStagePicture`."""
        head: Any = self.network.box
        found = head.features(pooled)
        return head.cls_score(found), head.bbox_pred(found)

    def masked(self, pooled: Tensor) -> Tensor:
        """As of `TwoStagePicture`."""
        logits: Tensor = self.network.mask.logits(pooled)  # type: ignore[operator,union-attr]
        return logits


class ForeignTwoStagePicture(TwoStagePicture):
    """That of torchvision's."""

    def classified(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """As of `TwoStagePicture`."""
        heads: Any = self.network.roi_heads
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        return logits, deltas

    def masked(self, pooled: Tensor) -> Tensor:
        """As of `TwoStagePicture`."""
        heads: Any = self.network.roi_heads
        logits: Tensor = heads.mask_predictor(heads.mask_head(pooled))
        return logits


class DensePicture(OnePicture):
    """That of a detector without proposals.

    Args:
        network: has `transform`, `features`, `outputs`, `traced_anchors`, `levels` and `rule`.
        smallest: as of `OnePicture`.
    """

    def __init__(self, network: DenseDetector, smallest: int = 1) -> None:
        super().__init__(network)
        self.smallest = smallest

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """As of `OnePicture`."""
        network: Any = self.network
        height, width = images.shape[-2:]
        batch = ImageList(padded(images, network.transform.multiple), [(height, width)])
        named = network.features(batch.tensors)
        maps = list(named.values())
        anchors = network.traced_anchors(batch, maps)
        outputs = {name: each[0].to(anchors.dtype) for name, each in network.outputs(named).items()}
        boxes, labels, scores = network.rule.traced(outputs, anchors, network.levels(maps), (height, width))
        return boxes, labels, scores


def _with_another(boxes: Tensor) -> Tensor:
    """Corners (K, 4) of the first picture -> regions (K + 1, 5), so that heads never see none of them.

    Not every runtime convolves nothing. The last region is a pixel.
    """
    return torch.cat([F.pad(boxes, (1, 0)), boxes.new_tensor([[0, 0, 0, 1, 1]])])
