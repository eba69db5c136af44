"""Detectors without proposals: every place of every map is judged, by a rule of `dense_rule` and its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from switchnorm.errors import InputError
from switchnorm.models.detection.dense_rule import Outputs, Rule
from switchnorm.models.detection.losses import Mean, alone
from switchnorm.models.detection.one_picture import DensePicture
from switchnorm.models.detection.prepared import Prepared
from switchnorm.models.detection.setting import Setting
from switchnorm.models.detection.traced import grid


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
    score_threshold = Setting[float]("rule")
    nms_threshold = Setting[float]("rule")
    detections_per_image = Setting[int]("rule")

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

    def traced_anchors(self, images: ImageList, maps: Sequence[Tensor]) -> Tensor:
        """As `anchors`, of sizes that are no numbers of Python."""
        dtype = torch.promote_types(images.tensors.dtype, torch.float32)
        return grid(self.anchor_generator, images.tensors, maps, dtype)

    def one_picture(self) -> DensePicture:
        """The function of one picture that is exported."""
        return DensePicture(self)

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
