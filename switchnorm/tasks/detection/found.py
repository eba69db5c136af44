"""What a detector found on a picture, in pixels of the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from switchnorm.data.detection.objects import Rle

if TYPE_CHECKING:  # what a deployed network finds is written without torch
    from torch import Tensor

    from switchnorm.data.detection import DetectionScene, Objects

Array = np.ndarray[Any, Any]

#: A pixel is part of a mask where its probability is above this (He et al., "Mask R-CNN", section 3.1).
MASK_THRESHOLD = 0.5


class Found(NamedTuple):
    """The detections on a picture in the network's order, on the CPU.

    Attributes:
        boxes: (M, 4) float32, x1, y1, x2, y2: edges in pixels of the original, within it.
        labels: (M,) int64 from 1.
        scores: (M,) float32 in [0, 1].
        masks: of each, as large as the original; None where the network predicts none.
        dropped: how many were left out, since a number of theirs is not finite.
    """

    boxes: Array
    labels: Array
    scores: Array
    masks: tuple[Rle, ...] | None = None
    dropped: int = 0

    def chosen(self, wanted: Array) -> Found:
        """Those of some places: (k,) integers, or (M,) bool."""
        places = np.arange(len(self.boxes))[wanted]
        masks = None if self.masks is None else tuple(self.masks[place] for place in places)
        return Found(self.boxes[places], self.labels[places], self.scores[places], masks)


class Truth(NamedTuple):
    """The objects on a picture, as `Objects`, in arrays."""

    boxes: Array
    labels: Array
    area: Array
    crowd: Array
    masks: tuple[Rle, ...] | None = None

    @classmethod
    def of(cls, objects: Objects) -> Truth:
        """That of a dataset's objects."""
        boxes, labels, area, crowd, masks = objects
        return cls(boxes.numpy(), labels.numpy(), area.numpy(), crowd.numpy(), masks)


def in_original(scene: DetectionScene, detections: Mapping[str, Tensor]) -> Found:
    """Detections in the network's picture as detections in the original.

    Masks become pixels one by one, and are kept as run lengths: whatever their number, one of the picture's size is in
    memory.

    Args:
        scene: the picture that the network was shown.
        detections: of the network, in pixels of `scene.picture`: boxes (M, 4), labels (M,), scores (M,), and masks
            (M, 1, s, s), probabilities within the box, where it predicts them.
    """
    import torch

    boxes, scores = (detections[name].detach().float().cpu() for name in ("boxes", "scores"))
    labels = detections["labels"].cpu()
    finite = boxes.isfinite().all(1) & scores.isfinite()
    height, width = scene.size
    shown_height, shown_width = scene.picture.shape[1:]
    scale = torch.tensor([width / shown_width, height / shown_height]).repeat(2)
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes = torch.minimum((boxes[finite] * scale).clamp(min=0), limit)
    masks = None
    if "masks" in detections:
        kept = detections["masks"][finite.to(detections["masks"].device)]
        masks = tuple(_pasted(mask, box, scene.size) for mask, box in zip(kept, boxes, strict=True))
    return Found(boxes.numpy(), labels[finite].numpy(), scores[finite].numpy(), masks, dropped=int((~finite).sum()))


def _pasted(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Rle:
    """The mask (1, s, s) of a box (4,) as run lengths in a picture of a height and width."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    pasted = paste_masks_in_image(mask.detach().float().cpu()[None], box[None], size)[0, 0]
    return encoded((pasted > MASK_THRESHOLD).numpy())


def encoded(mask: Array) -> Rle:
    """The pixels of an object, (H, W) bool, as run lengths."""
    found: Rle = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in found["size"]], "counts": found["counts"]}
