"""Tiny detectors, pictures and targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import switchnorm

#: Heads of a pyramid, and the network without one.
NAMES = tuple(
    [f"resnet18_fpn16+{heads}" for heads in ("faster_2fc", "faster_4conv1fc", "mask_4conv1fc")] + ["resnet18_c4+faster"]
)


def network(name: str, norm: str = "bn", **options: Any) -> nn.Module:
    """A network of 3 classes for pictures of some 64 pixels, the same every time."""
    torch.manual_seed(0)
    if "_fpn" in name:
        options = {"box_channels": 32, **options}
    small = {"anchor_size": 12.0, "anchors_per_image": 32, "rois_per_image": 24, "proposals_test": 110}
    return switchnorm.create_model(name, norm=norm, num_classes=3, **{**small, **options})


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    """Pictures of (height, width)."""
    torch.manual_seed(1)
    return [torch.randn(3, *size) for size in sizes]


def target(size: tuple[int, int], boxes: list[list[float]], labels: list[int], **others: Tensor) -> dict[str, Tensor]:
    """Objects with masks that fill an ellipse in their boxes."""
    rows, columns = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        across = (2 * columns - left - right) / (right - left)
        down = (2 * rows - top - bottom) / (bottom - top)
        mask.copy_(across**2 + down**2 <= 1)
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": masks,
        **others,
    }
