"""Pictures as detectors take them: resized and normalized already, so that only padding is left to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from switchnorm.errors import InputError
from switchnorm.models.detection.geometry import Geometry

#: What sides of a batch are multiples of, so that the maps of all strides are whole.
MULTIPLE = 32
Target = dict[str, Tensor]
Detections = dict[str, Tensor]


class Prepared(nn.Module):
    """Stands where torchvision's detectors have `GeneralizedRCNNTransform`, which resizes and normalizes.

    Args:
        num_classes: C, of the labels 1 to C.
        geometry: of the boxes that are given out.
        multiple: sides of the batch are multiples of this.

    Attributes:
        paste: whether detected masks are pasted into their picture, (M, 1, h, w), as torchvision's; otherwise they stay
            as the network makes them, (M, 1, 28, 28), which takes less memory.
        edges: whether boxes are given out as edges whatever the geometry; otherwise the published one gives inclusive
            ends, as its authors' code does.
    """

    def __init__(self, num_classes: int, geometry: Geometry, multiple: int = MULTIPLE) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.multiple = multiple
        self.geometry = geometry
        self.paste = True
        self.edges = False

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: list[Target] | None = None
    ) -> tuple[ImageList, list[Target] | None]:
        """Pictures as one batch.

        Args:
            images: (3, h, w) of any sizes, or one tensor (N, 3, H, W), which is taken as it is where its sides are
                multiples of 32; what of it is a picture is "size" in the targets, (2,), or all of it.
            targets: of each picture "boxes" (K, 4), edges in pixels, and "labels" (K,); see `TwoStage.forward`.

        Raises:
            InputError: no pictures, or no pictures of numbers; targets of another number, shape or type, boxes without
                area, labels outside of 1 to C.
        """
        check_pictures(images)
        if targets is not None:
            self.check(targets, len(images))
            targets = [{**target, "labels": target["labels"].long()} for target in targets]
        if isinstance(images, Tensor):
            height, width = images.shape[-2:]
            sizes = [(height, width)] * len(images)
            if targets is not None and "size" in targets[0]:
                sizes = [(int(high), int(wide)) for high, wide in (target["size"].tolist() for target in targets)]
            down, right = -height % self.multiple, -width % self.multiple
            return ImageList(F.pad(images, (0, right, 0, down)) if down or right else images, sizes), targets
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        height, width = (-(-max(sides) // self.multiple) * self.multiple for sides in zip(*sizes, strict=True))
        batch = images[0].new_zeros((len(images), images[0].shape[0], height, width))
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]].copy_(image)
        return ImageList(batch, sizes), targets

    def check(self, targets: Sequence[Target], pictures: int) -> None:
        """Raise `InputError` for targets that are not those of so many pictures, or that teach nothing."""
        if len(targets) != pictures:
            raise InputError(f"{pictures} pictures need as many targets, got {len(targets)}")
        for i, target in enumerate(targets):
            boxes, labels = target.get("boxes"), target.get("labels")
            if not isinstance(boxes, Tensor) or boxes.dim() != 2 or boxes.shape[1] != 4:
                found = f"shape {tuple(boxes.shape)}" if isinstance(boxes, Tensor) else type(boxes).__name__
                raise InputError(f"boxes of target {i} must be a tensor of shape (K, 4), got {found}")
            if not isinstance(labels, Tensor) or labels.shape != boxes.shape[:1] or labels.is_floating_point():
                raise InputError(f"labels of target {i} must be {len(boxes)} integers, one for each box")
            masks = target.get("masks")
            if masks is not None and (masks.dim() != 3 or len(masks) != len(boxes)):
                shape = f"({len(boxes)}, h, w)"
                raise InputError(f"masks of target {i} must have the shape {shape}, got {tuple(masks.shape)}")
        boxes, labels = (torch.cat([target[key] for target in targets]) for key in ("boxes", "labels"))
        flat = ~((boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1))
        foreign = (labels < 1) | (labels > self.num_classes)
        if bool((flat | foreign).any()):  # one wait for the device, not one a picture
            if bool(flat.any()):
                raise InputError(f"box {boxes[flat][0].tolist()} has no area or no end; leave it out of the targets")
            raise InputError(f"label {int(labels[foreign][0])} is no class; labels are 1 to {self.num_classes}")

    def postprocess(
        self, result: list[Detections], image_shapes: list[tuple[int, int]], _original_sizes: Any = None
    ) -> list[Detections]:
        """Detections as they are given out: boxes by the geometry, masks pasted if `paste`."""
        for found, size in zip(result, image_shapes, strict=True) if not self.training else ():
            corners = self.geometry.corners(found["boxes"])
            if "masks" in found and self.paste:
                found["masks"] = paste_masks_in_image(found["masks"], corners, size)
            found["boxes"] = found["boxes"] if self.edges else corners
        return result


def check_pictures(images: Sequence[Tensor] | Tensor) -> None:
    """Raise `InputError` for what is no batch of pictures, each (C, h, w) of floating-point numbers, all with one C."""
    if len(images) == 0:
        raise InputError("a detector needs pictures, got none")
    first = images[0]
    for i, image in enumerate([first] if isinstance(images, Tensor) else images):
        if not isinstance(image, Tensor) or image.dim() != 3 or image.shape[0] != first.shape[0]:
            found = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise InputError(f"picture {i} must be a tensor (C, h, w) with as many channels as the others, got {found}")
        if not image.is_floating_point():
            raise InputError(
                f"picture {i} must be normalized, got {image.dtype}; try (picture / 255 - mean) / deviation"
            )
