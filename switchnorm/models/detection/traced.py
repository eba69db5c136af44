"""Steps of a detector for tracers: the same arithmetic as in training, with no size that must be a number of Python.

`torch.export`, `torch.jit.trace` and exporters of ONNX record the operations on tensors. A branch on how many boxes
there are, or a number that is read from a shape, would hold for the example's picture alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

#: How many bits of a threshold runtimes keep.
_KEPT = torch.float32


def number(like: Tensor, value: Any) -> Tensor:
    """A number of Python, or of a tracer, as a tensor () of the type and on the device of another."""
    return like.new_zeros(()) + value


def padded(images: Tensor, multiple: int) -> Tensor:
    """(N, C, H, W) -> the same with zeros to the right and below, up to sides that are multiples."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))


def grid(generator: Any, images: Tensor, maps: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The anchors of all maps, as an anchor generator of torchvision or one of `Geometry.anchors` makes them.

    Places are counted through, for a mesh of rows and columns is traced for maps of more than one of each alone.

    Args:
        generator: has `cell_anchors`, and `strides` where they are given.
        images: (N, C, H, W), padded.
        maps: (N, c, h, w) each.
        dtype: of the anchors.

    Returns:
        (A, 4) edges.
    """
    given = getattr(generator, "strides", None)
    found = []
    for level, (cells, each) in enumerate(zip(generator.cell_anchors, maps, strict=True)):
        height, width = each.shape[-2:]
        if given is None:
            down, right = images.shape[-2] // height, images.shape[-1] // width
        else:
            down = right = given[level]
        place = torch.arange(height * width, device=images.device)
        across = number(place, width)
        row = torch.div(place, across, rounding_mode="floor")
        x, y = (place - row * across) * right, row * down
        corners = torch.stack([x, y, x, y], 1).to(dtype)
        found.append((corners[:, None] + cells.to(corners)).flatten(0, 1))
    return torch.cat(found)


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest of scores along the first dimension, `count` of them whatever the number.

    Args:
        scores: (A, ...), one or more.
        count: of what is wanted.

    Returns:
        Values and their places, (count, ...) each, by falling score; where there are not as many, values are -inf and
        places are some.
    """
    missing = F.pad(scores, (0, 0) * (scores.dim() - 1) + (0, count), value=-math.inf)
    values, places = missing.topk(count, 0)
    return values, torch.minimum(places, number(places, scores.shape[0]) - 1)


def suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, count: int, threshold: float, size: Any) -> Tensor:
    """Non-maximum suppression within each group, as `Geometry.suppress` and torchvision's `batched_nms`.

    Boxes of different groups are moved apart. Groups lie in a square, not in a row, so that numbers stay small and
    overlaps exact to more digits.

    Args:
        boxes: (K, 4) edges within the picture.
        scores: (K,).
        groups: (K,) int64 in [0, count).
        count: of groups.
        threshold: the largest overlap of two that both stay.
        size: height and width of the picture.

    Returns:
        Indices of those that stay, (M,) int64, by falling score.
    """
    across = math.ceil(math.sqrt(count))
    height, width = (number(boxes, side) for side in size)
    step = torch.maximum(height, width) + 1
    column, row = groups % across, torch.div(groups, across, rounding_mode="floor")
    moved = boxes + torch.stack([column, row, column, row], 1).to(boxes.dtype) * step
    return nms(moved, scores, rounded_down(threshold))


def rounded_down(threshold: float) -> float:
    """The nearest float32 that is not above a number: runtimes compare overlaps in float32 with one."""
    found = torch.tensor(threshold, dtype=_KEPT)
    down = found if found.item() <= threshold else torch.nextafter(found, torch.tensor(-math.inf))
    return float(down.item())
