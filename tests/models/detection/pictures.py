"""Small pictures and their objects, for any detector."""

from __future__ import annotations

import torch
from torch import Tensor


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(3, *size, generator=draw) for size in sizes]


def objects(size: tuple[int, int], count: int, classes: int = 3, seed: int = 1) -> dict[str, Tensor]:
    """So many objects, with masks and a key of random numbers."""
    draw = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    least = torch.rand(count, 2, generator=draw) * extent * 0.5
    boxes = torch.cat([least, least + 4 + torch.rand(count, 2, generator=draw) * (extent * 0.5 - 4)], 1)
    masks = torch.zeros(count, *size, dtype=torch.uint8)
    for mask, box in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    labels = torch.randint(1, classes + 1, (count,), generator=draw)
    return {"boxes": boxes, "labels": labels, "masks": masks, "draw": torch.tensor(seed)}
