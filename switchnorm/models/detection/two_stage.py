"""Two-stage detectors: Faster R-CNN and Mask R-CNN, on a pyramid or on the third stage alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.models.detection.geometry import Geometry
from switchnorm.models.detection.heads import BoxHead, MaskHead
from switchnorm.models.detection.losses import Mean, box_losses, mask_loss, mask_targets
from switchnorm.models.detection.one_picture import OwnTwoStagePicture
from switchnorm.models.detection.pool import check_regions
from switchnorm.models.detection.prepared import Detections, Prepared, Target
from switchnorm.models.detection.proposals import ProposalNetwork, anchors_of_first_cell
from switchnorm.models.detection.pyramid import Pyramid, coarser
from switchnorm.models.detection.regions import Drawn, Regions
from switchnorm.models.detection.setting import Setting


class TwoStage(nn.Module):
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

    Attributes:
        output_in_training: that training has another output, as of this library's decoders.
        regions_by_pools: that maps are cut by the heads' pools alone, for ghost batches by picture; masks are cut too.
        score_threshold, nms_threshold, detections_per_image: as of `Regions`.
        mean_over_processes: from a count to its mean over all processes, by which losses are divided.
    """

    output_in_training: ClassVar[bool] = True
    regions_by_pools: ClassVar[bool] = True
    score_threshold = Setting[float]("regions")
    nms_threshold = Setting[float]("regions")
    detections_per_image = Setting[int]("regions")
    mean_over_processes = Setting[Mean]("rpn")

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
        super().__init__()
        self.transform = Prepared(num_classes, regions.geometry)
        self.body = body
        self.neck = neck
        self.rpn = rpn
        self.box = box
        self.mask = mask
        self.regions = regions
        self.box_beta = box_beta
        self.published_eval = published_eval

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """As torchvision's detectors are called, with pictures that are resized and normalized already.

        Args:
            images: (C, h, w) of any sizes, or one batch (N, C, H, W) with sides of multiples of 32.
            targets: in training, of each picture "boxes" (K, 4) edges in pixels, "labels" (K,) int64 from 1, for a mask
                head "masks" (K, h, w) of 0 and 1; and perhaps "ignored" (M, 4), regions that are neither object nor
                background, "size" (2,), height and width of the picture within the batch, and "draw" () int64, the key
                of this picture's random numbers, in place of torch's generator.

        Returns:
            In training the losses: "loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness" and
            "loss_rpn_box_reg". In evaluation of each picture "boxes" (M, 4), "labels" (M,), "scores" (M,) and, with a
            mask head, "masks" (M, 1, h, w), see `Prepared.paste`; boxes of the published geometry have inclusive ends
            unless `Prepared.edges`.

        Raises:
            InputError: as of `Prepared.forward`; no targets in training, or none of masks for a mask head.
        """
        if self.training and targets is None:
            raise InputError("a detector in training mode needs targets; call eval() for detections")
        batch, targets = self.transform(images, targets)
        maps = self.features(batch.tensors)
        proposals, losses = self.rpn(batch, maps, targets)
        if self.training and targets is not None:
            return {**self.losses(maps, self.regions.draw(proposals, targets), targets), **losses}
        corners = [self.regions.geometry.corners(each) for each in proposals]
        logits, deltas = self.box(maps, corners)
        found = self.regions.detect(logits, deltas, proposals, batch.image_sizes)
        if self.mask is not None:
            self._add_masks(self.mask, maps, found)
        return self.transform.postprocess(found, batch.image_sizes)

    def losses(self, maps: dict[str, Tensor], drawn: Drawn, targets: Sequence[Target]) -> dict[str, Tensor]:
        """The losses of the heads over the regions that are drawn."""
        geometry, mean = self.regions.geometry, self.mean_over_processes
        logits, deltas = self.box(maps, [geometry.corners(each) for each in drawn.boxes])
        classifier, box = box_losses(logits, deltas, drawn.labels, drawn.wanted, mean, self.box_beta)
        losses = {"loss_classifier": classifier, "loss_box_reg": box}
        if self.mask is not None:
            if any("masks" not in target for target in targets):
                raise InputError(
                    "a network with a mask head needs masks in the targets; try one without, as +faster_2fc"
                )
            boxes, labels, objects = drawn.positive()
            corners = [geometry.corners(each) for each in boxes]
            logits = self.mask(maps, corners)
            wanted = mask_targets([target["masks"] for target in targets], corners, objects, logits.shape[-1])
            losses["loss_mask"] = mask_loss(logits, labels, wanted, mean)
        return losses

    def _add_masks(self, head: MaskHead, maps: dict[str, Tensor], found: list[Detections]) -> None:
        """Give detections the mask of their class, probabilities (M, 1, 28, 28)."""
        logits = head(maps, [self.regions.geometry.corners(each["boxes"]) for each in found])
        labels = torch.cat([each["labels"] for each in found])
        masks = logits[torch.arange(len(labels), device=labels.device), labels].sigmoid()[:, None]
        for each, mask in zip(found, masks.split([len(each["labels"]) for each in found]), strict=True):
            each["masks"] = mask

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> the maps "p2" to "p6" of a pyramid, or "c4"."""
        maps = self.body(images)
        return {"c4": maps[-1]} if self.neck is None else coarser(self.neck(maps))

    def rpn_outputs(self, features: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Maps -> of each level logits (N, A, h, w) and deltas (N, 4 A, h, w) of the proposals."""
        return list(zip(*self.rpn.head(list(features.values())), strict=True))

    def box_outputs(self, features: dict[str, Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and regions (K, 5): picture, x1, y1, x2, y2 -> class logits (K, 1 + C), background first, and deltas
        (K, 4 (1 + C)). Regions of the published geometry have inclusive ends.

        Raises:
            InputError: as of `check_regions`.
        """
        check_regions(features, rois)
        return self.box(features, rois)

    def mask_outputs(self, features: dict[str, Tensor], rois: Tensor) -> Tensor:
        """Maps and regions (K, 5) -> mask logits (K, 1 + C, 28, 28).

        Raises:
            InputError: a network without a mask head; as of `check_regions`.
        """
        if self.mask is None:
            raise InputError("this network has no mask head; the nearest that has one is '+mask_4conv1fc'")
        check_regions(features, rois)
        return self.mask(features, rois)

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
