"""torchvision's Faster R-CNN and Mask R-CNN with this library's draws and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import _setup_scales

from switchnorm.errors import InputError
from switchnorm.models.detection.geometry import GEOMETRIES
from switchnorm.models.detection.losses import Mean, box_losses, mask_loss, mask_targets
from switchnorm.models.detection.one_picture import ForeignTwoStagePicture
from switchnorm.models.detection.pool import RegionPool, check_regions
from switchnorm.models.detection.prepared import Detections, Prepared, Target
from switchnorm.models.detection.proposals import ProposalNetwork
from switchnorm.models.detection.regions import Drawn, Regions
from switchnorm.models.detection.setting import Setting

#: Where torchvision's smooth L1 loss of boxes becomes linear.
BETA = 1 / 9
#: Of a picture that shows how maps are smaller, in pixels.
_SIDE = 128


class ForeignTwoStage(nn.Module):
    """A detector of torchvision with proposals.

    Args:
        network: torchvision's, whose parts this takes over under the same names.
        transform: makes one padded batch of the pictures.

    Attributes:
        output_in_training, regions_by_pools, mean_over_processes: as of `TwoStage`.
        score_threshold, nms_threshold, detections_per_image: as of `Regions`.
    """

    output_in_training: ClassVar[bool] = True
    regions_by_pools: ClassVar[bool] = True
    score_threshold = Setting[float]("regions")
    nms_threshold = Setting[float]("regions")
    detections_per_image = Setting[int]("regions")
    mean_over_processes = Setting[Mean]("rpn")

    def __init__(self, network: Any, transform: Prepared) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = network.backbone
        self.rpn = ProposalNetwork.of(network.rpn)
        self.roi_heads = network.roi_heads
        heads = network.roi_heads
        self.regions = Regions(
            GEOMETRIES["torchvision"],
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
            heads.proposal_matcher.high_threshold,
            heads.box_coder.weights,
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
        )

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """As of `switchnorm.models.detection.TwoStage`."""
        if self.training and targets is None:
            raise InputError("a detector in training mode needs targets; call eval() for detections")
        batch, targets = self.transform(images, targets)
        maps = self.features(batch.tensors)
        proposals, losses = self.rpn(batch, maps, targets)
        if self.training and targets is not None:
            drawn = self.regions.draw(proposals, targets)
            return {**self.losses(maps, drawn, targets), **losses}
        logits, deltas = self.boxes(maps, proposals)
        found = self.regions.detect(logits, deltas, proposals, batch.image_sizes)
        if self.has_masks:
            self._add_masks(maps, found)
        return self.transform.postprocess(found, batch.image_sizes)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the maps by torchvision's names, the finest first."""
        maps: dict[str, Tensor] = dict(self.backbone(images))
        for pool in self.pools:
            if pool.scales is None:
                # torchvision guesses strides by the pictures without their padding, which goes wrong for small ones.
                own = [each for name, each in maps.items() if name in pool.featmap_names]
                size = [(images.shape[2], images.shape[3])]
                with torch.device("cpu"):  # numbers, also where the network is on the meta device
                    pool.scales, pool.map_levels = _setup_scales(own, size, pool.canonical_scale, pool.canonical_level)
        return maps

    def rpn_outputs(self, features: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Maps -> of each level logits (N, A, h, w) and deltas (N, 4 A, h, w) of the proposals."""
        return list(zip(*self.rpn.head(list(features.values())), strict=True))

    def box_outputs(self, features: dict[str, Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """As of `TwoStage`: maps and regions (K, 5) -> class logits and deltas."""
        boxes, back = _by_picture(features, rois)
        logits, deltas = self.boxes(features, boxes)
        return logits[back], deltas[back]

    def mask_outputs(self, features: dict[str, Tensor], rois: Tensor) -> Tensor:
        """As of `TwoStage`: maps and regions (K, 5) -> mask logits.

        Raises:
            InputError: a network without a mask head; as of `check_regions`.
        """
        if not self.has_masks:
            raise InputError("this network has no mask head; the nearest that has one is 'maskrcnn_resnet50_fpn'")
        boxes, back = _by_picture(features, rois)
        return self.masks(features, boxes)[back]

    def boxes(self, maps: dict[str, Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps, and boxes (K, 4) of each picture -> class logits (K, 1 + C) and deltas (K, 4 (1 + C))."""
        heads: Any = self.roi_heads
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, boxes, [])))
        return logits, deltas

    def masks(self, maps: dict[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Maps, and boxes (K, 4) of each picture -> mask logits (K, 1 + C, 28, 28)."""
        heads: Any = self.roi_heads
        logits: Tensor = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(maps, boxes, [])))
        return logits

    def losses(self, maps: dict[str, Tensor], drawn: Drawn, targets: Sequence[Target]) -> dict[str, Tensor]:
        """The losses of the heads over the regions that are drawn."""
        mean = self.mean_over_processes
        logits, deltas = self.boxes(maps, drawn.boxes)
        classifier, box = box_losses(logits, deltas, drawn.labels, drawn.wanted, mean, BETA)
        losses = {"loss_classifier": classifier, "loss_box_reg": box}
        if self.has_masks:
            if any("masks" not in target for target in targets):
                raise InputError(
                    "a network with a mask head needs masks in the targets; try one without, as fasterrcnn_resnet50_fpn"
                )
            boxes, labels, objects = drawn.positive()
            logits = self.masks(maps, boxes)
            wanted = mask_targets([target["masks"] for target in targets], boxes, objects, logits.shape[-1])
            losses["loss_mask"] = mask_loss(logits, labels, wanted, mean)
        return losses

    def _add_masks(self, maps: dict[str, Tensor], found: list[Detections]) -> None:
        """Give detections the mask of their class, probabilities (M, 1, 28, 28)."""
        logits = self.masks(maps, [each["boxes"] for each in found])
        labels = torch.cat([each["labels"] for each in found])
        masks = logits[torch.arange(len(labels), device=labels.device), labels].sigmoid()[:, None]
        for each, mask in zip(found, masks.split([len(each["labels"]) for each in found]), strict=True):
            each["masks"] = mask

    def one_picture(self) -> ForeignTwoStagePicture:
        """The function of one picture that is exported."""
        first = next(each for each in self.backbone.modules() if isinstance(each, nn.Conv2d))
        # Scales are numbers that torchvision reads from a picture's maps: not from the first one that is traced.
        with torch.no_grad():
            maps = self.features(first.weight.new_zeros(1, first.in_channels, _SIDE, _SIDE))
        return ForeignTwoStagePicture(self, *(RegionPool.of(pool, maps) for pool in self.pools))

    @property
    def pools(self) -> list[MultiScaleRoIAlign]:
        """What takes regions out of maps."""
        found = (self.roi_heads.box_roi_pool, self.roi_heads.mask_roi_pool)
        return [pool for pool in found if isinstance(pool, MultiScaleRoIAlign)]

    @property
    def has_masks(self) -> bool:
        """Whether masks are found too."""
        return bool(self.roi_heads.has_mask())


def _by_picture(features: dict[str, Tensor], rois: Tensor) -> tuple[list[Tensor], Tensor]:
    """Regions (K, 5) -> boxes (k, 4) of each picture, and where each region is among all of them, (K,)."""
    check_regions(features, rois)
    numbers = rois[:, 0].long()
    pictures = len(next(iter(features.values())))
    return [rois[numbers == i, 1:] for i in range(pictures)], numbers.argsort(stable=True).argsort()
