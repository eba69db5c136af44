"""torchvision's Faster R-CNN and Mask R-CNN with this library's draws and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import _setup_scales

from switchnorm.models.detection.geometry import GEOMETRIES
from switchnorm.models.detection.one_picture import ForeignTwoStagePicture
from switchnorm.models.detection.pool import RegionPool, check_regions
from switchnorm.models.detection.prepared import Prepared
from switchnorm.models.detection.proposals import ProposalNetwork
from switchnorm.models.detection.region_detector import RegionDetector
from switchnorm.models.detection.regions import Regions

#: Where torchvision's smooth L1 loss of boxes becomes linear.
BETA = 1 / 9
#: Of a picture that shows how maps are smaller, in pixels.
_SIDE = 128


class ForeignTwoStage(RegionDetector):
    """A detector of torchvision with proposals.

    Args:
        network: torchvision's, whose parts this takes over under the same names.
        transform: makes one padded batch of the pictures.
    """

    nearest_with_masks: ClassVar[str] = "maskrcnn_resnet50_fpn"
    nearest_without_masks: ClassVar[str] = "fasterrcnn_resnet50_fpn"

    def __init__(self, network: Any, transform: Prepared) -> None:
        heads = network.roi_heads
        regions = Regions(
            GEOMETRIES["torchvision"],
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
            heads.proposal_matcher.high_threshold,
            heads.box_coder.weights,
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
        )
        super().__init__(transform, regions, box_beta=BETA)
        self.backbone = network.backbone
        self.rpn = ProposalNetwork.of(network.rpn)
        self.roi_heads = heads

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
        self._require_masks()
        boxes, back = _by_picture(features, rois)
        return self.masks(features, boxes)[back]

    def boxes(self, maps: dict[str, Tensor], corners: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As of `RegionDetector`."""
        heads: Any = self.roi_heads
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, corners, [])))
        return logits, deltas

    def masks(self, maps: dict[str, Tensor], corners: Sequence[Tensor]) -> Tensor:
        """As of `RegionDetector`."""
        heads: Any = self.roi_heads
        logits: Tensor = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(maps, corners, [])))
        return logits

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
        """As of `RegionDetector`."""
        return bool(self.roi_heads.has_mask())


def _by_picture(features: dict[str, Tensor], rois: Tensor) -> tuple[list[Tensor], Tensor]:
    """Regions (K, 5) -> boxes (k, 4) of each picture, and where each region is among all of them, (K,)."""
    check_regions(features, rois)
    numbers = rois[:, 0].long()
    pictures = len(next(iter(features.values())))
    return [rois[numbers == i, 1:] for i in range(pictures)], numbers.argsort(stable=True).argsort()
