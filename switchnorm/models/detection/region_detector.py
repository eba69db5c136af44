"""What two-stage detectors share: regions are proposed, and heads look at each, whoever made the heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.models.detection.losses import Mean, box_losses, mask_loss, mask_targets
from switchnorm.models.detection.prepared import Detections, Prepared, Target
from switchnorm.models.detection.proposals import ProposalNetwork
from switchnorm.models.detection.regions import Drawn, Regions
from switchnorm.models.detection.setting import Setting


class RegionDetector(nn.Module):
    """A detector that looks at regions which it proposes itself, in torchvision's calling convention.

    Args:
        transform: makes one padded batch of the pictures.
        regions: how regions are chosen.
        box_beta: where the smooth L1 loss of boxes becomes linear.

    Attributes:
        output_in_training: that training has another output, as of this library's decoders.
        regions_by_pools: that maps are cut by the heads' pools alone, for ghost batches by picture; masks are cut too.
        nearest_with_masks, nearest_without_masks: names of networks, for errors.
        score_threshold, nms_threshold, detections_per_image: as of `Regions`.
        mean_over_processes: from a count to its mean over all processes, by which losses are divided.
    """

    output_in_training: ClassVar[bool] = True
    regions_by_pools: ClassVar[bool] = True
    nearest_with_masks: ClassVar[str]
    nearest_without_masks: ClassVar[str]
    score_threshold = Setting[float]("regions")
    nms_threshold = Setting[float]("regions")
    detections_per_image = Setting[int]("regions")
    mean_over_processes = Setting[Mean]("rpn")

    #: Proposes regions.
    rpn: ProposalNetwork

    def __init__(self, transform: Prepared, regions: Regions, *, box_beta: float) -> None:
        super().__init__()
        self.transform = transform
        self.regions = regions
        self.box_beta = box_beta

    @property
    def has_masks(self) -> bool:
        """Whether masks are found too."""
        raise NotImplementedError

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> the maps by their names, the finest first."""
        raise NotImplementedError

    def boxes(self, maps: dict[str, Tensor], corners: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps, and corners (K, 4) of each picture's regions -> class logits (K, 1 + C), background first, and deltas
        (K, 4 (1 + C)).
        """
        raise NotImplementedError

    def masks(self, maps: dict[str, Tensor], corners: Sequence[Tensor]) -> Tensor:
        """Maps, and corners (K, 4) of each picture's regions -> mask logits (K, 1 + C, 28, 28)."""
        raise NotImplementedError

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
        logits, deltas = self.boxes(maps, self._corners(proposals))
        found = self.regions.detect(logits, deltas, proposals, batch.image_sizes)
        if self.has_masks:
            self._add_masks(maps, found)
        return self.transform.postprocess(found, batch.image_sizes)

    def losses(self, maps: dict[str, Tensor], drawn: Drawn, targets: Sequence[Target]) -> dict[str, Tensor]:
        """The losses of the heads over the regions that are drawn."""
        mean = self.mean_over_processes
        logits, deltas = self.boxes(maps, self._corners(drawn.boxes))
        classifier, box = box_losses(logits, deltas, drawn.labels, drawn.wanted, mean, self.box_beta)
        losses = {"loss_classifier": classifier, "loss_box_reg": box}
        if self.has_masks:
            if any("masks" not in target for target in targets):
                raise InputError(
                    "a network with a mask head needs masks in the targets; try one without, as "
                    f"{self.nearest_without_masks}"
                )
            boxes, labels, objects = drawn.positive()
            corners = self._corners(boxes)
            logits = self.masks(maps, corners)
            wanted = mask_targets([target["masks"] for target in targets], corners, objects, logits.shape[-1])
            losses["loss_mask"] = mask_loss(logits, labels, wanted, mean)
        return losses

    def _add_masks(self, maps: dict[str, Tensor], found: list[Detections]) -> None:
        """Give detections the mask of their class, probabilities (M, 1, 28, 28)."""
        logits = self.masks(maps, self._corners([each["boxes"] for each in found]))
        labels = torch.cat([each["labels"] for each in found])
        masks = logits[torch.arange(len(labels), device=labels.device), labels].sigmoid()[:, None]
        for each, mask in zip(found, masks.split([len(each["labels"]) for each in found]), strict=True):
            each["masks"] = mask

    def _corners(self, boxes: Sequence[Tensor]) -> list[Tensor]:
        return [self.regions.geometry.corners(each) for each in boxes]

    def rpn_outputs(self, features: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Maps -> of each level logits (N, A, h, w) and deltas (N, 4 A, h, w) of the proposals."""
        return list(zip(*self.rpn.head(list(features.values())), strict=True))

    def _require_masks(self) -> None:
        """Raise `InputError` for a network without a mask head."""
        if not self.has_masks:
            raise InputError(f"this network has no mask head; the nearest that has one is {self.nearest_with_masks!r}")
