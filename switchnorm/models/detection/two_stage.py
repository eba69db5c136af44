"""Two-stage detectors: Faster R-CNN and Mask R-CNN, on a pyramid or on the third stage alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from switchnorm.models.detection.geometry import Geometry
from switchnorm.models.detection.heads import BoxHead, MaskHead
from switchnorm.models.detection.one_picture import OwnTwoStagePicture
from switchnorm.models.detection.pool import check_regions
from switchnorm.models.detection.prepared import Prepared
from switchnorm.models.detection.proposals import ProposalNetwork, anchors_of_first_cell
from switchnorm.models.detection.pyramid import Pyramid, coarser
from switchnorm.models.detection.region_detector import RegionDetector
from switchnorm.models.detection.regions import Regions


class TwoStage(RegionDetector):
    """A body, regions that are proposed in its maps, and heads that look at each.

    Ren et al., "Faster R-CNN", NeurIPS 2015; He et al., "Mask R-CNN", ICCV 2017.

    Args:
        body: from pictures to the maps of four stages, or of three without a neck.
        neck: the pyramid; None for regions of the third stage's map.
        rpn: proposes regions.
        box: from regions to classes and boxes.
        mask: from regions to masks, or None.
        regions: how regions are chosen.
        num_classes: C.
        box_beta: where the smooth L1 loss of boxes becomes linear.
        published_eval: whether evaluation leaves `body.layer1` in training mode, see `published_eval`.
    """

    nearest_with_masks: ClassVar[str] = "+mask_4conv1fc"
    nearest_without_masks: ClassVar[str] = "+faster_2fc"

    def __init__(
        self,
        body: nn.Module,
        neck: Pyramid | None,
        rpn: ProposalNetwork,
        box: BoxHead,
        mask: MaskHead | None,
        regions: Regions,
        num_classes: int,
        *,
        box_beta: float,
        published_eval: bool = False,
    ) -> None:
        super().__init__(Prepared(num_classes, regions.geometry), regions, box_beta=box_beta)
        self.body = body
        self.neck = neck
        self.rpn = rpn
        self.box = box
        self.mask = mask
        self.published_eval = published_eval

    @property
    def has_masks(self) -> bool:
        """As of `RegionDetector`."""
        return self.mask is not None

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> the maps "p2" to "p6" of a pyramid, or "c4"."""
        maps = self.body(images)
        return {"c4": maps[-1]} if self.neck is None else coarser(self.neck(maps))

    def boxes(self, maps: dict[str, Tensor], corners: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """As of `RegionDetector`; or of regions (K, 5) with the number of the picture before the corners."""
        found: tuple[Tensor, Tensor] = self.box(maps, corners)
        return found

    def masks(self, maps: dict[str, Tensor], corners: Sequence[Tensor] | Tensor) -> Tensor:
        """As of `RegionDetector`, and `boxes`."""
        assert self.mask is not None
        found: Tensor = self.mask(maps, corners)
        return found

    def box_outputs(self, features: dict[str, Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and regions (K, 5): picture, x1, y1, x2, y2 -> class logits (K, 1 + C), background first, and deltas
        (K, 4 (1 + C)). Regions of the published geometry have inclusive ends.

        Raises:
            InputError: as of `check_regions`.
        """
        check_regions(features, rois)
        return self.boxes(features, rois)

    def mask_outputs(self, features: dict[str, Tensor], rois: Tensor) -> Tensor:
        """Maps and regions (K, 5) -> mask logits (K, 1 + C, 28, 28).

        Raises:
            InputError: a network without a mask head; as of `check_regions`.
        """
        self._require_masks()
        check_regions(features, rois)
        return self.masks(features, rois)

    @property
    def anchors(self) -> dict[str, Tensor]:
        """Corners of the anchors of each level's first cell, (A, 4) float64; inclusive in the published geometry."""
        return dict(zip(self.levels, anchors_of_first_cell(self.rpn), strict=True))

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the maps in which regions are proposed."""
        return ("c4",) if self.neck is None else ("p2", "p3", "p4", "p5", "p6")

    @property
    def geometry(self) -> Geometry:
        """Of boxes."""
        return self.regions.geometry

    def one_picture(self) -> OwnTwoStagePicture:
        """The function of one picture that is exported."""
        return OwnTwoStagePicture(self, self.box.pool, None if self.mask is None else self.mask.pool)

    def train(self, mode: bool = True) -> TwoStage:
        """As of every module, but for `published_eval`."""
        super().train(mode)
        if not mode and self.published_eval:
            self.body.get_submodule("layer1").train()
        return self
