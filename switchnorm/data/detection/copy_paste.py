"""Objects of one picture pasted onto another.

Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", 2021, section 3:
pixels of the masks are copied without blending; objects that are covered wholly go, and those that are covered in part
keep what is left of their masks, and its box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from switchnorm.data.detection.patches import Array, Patch, bounds, uncovered, union
from switchnorm.data.detection.sample import Placed, Sample, joined


def copy_paste(onto: Sample, source: Sample, chosen: Sequence[bool], at: tuple[int, int]) -> Sample:
    """A picture with objects of another.

    Args:
        onto: the picture, with masks.
        source: the other, with masks, not larger than it beyond `at`.
        chosen: which of its objects are pasted.
        at: where its first pixel comes to lie, down and across.
    """
    down, right = at
    picked = torch.tensor([place for place, taken in enumerate(chosen) if taken], dtype=torch.int64)
    others = source.objects
    assert others.masks is not None
    masks = tuple(others.masks[place] for place in picked.tolist())
    candidates = Placed(others.boxes[picked], others.labels[picked], others.ignored[:0], masks).moved(down, right)
    pasted = _left(candidates, _gaps(onto))
    assert pasted.masks is not None
    if not pasted.masks:
        return onto
    covered = union(pasted.masks, onto.size)
    pixels = onto.pixels.clone()
    height, width = source.size
    part = pixels[:, down : down + height, right : right + width]
    torch.where(torch.from_numpy(covered[down : down + height, right : right + width]), source.pixels, part, out=part)
    return Sample(pixels, joined([_left(onto.objects, covered), pasted]), onto.filled)


def _gaps(sample: Sample) -> Array:
    """The pixels that no picture fills, (h, w) bool."""
    gaps = np.ones(sample.size, bool)
    for top, left, height, width in sample.filled:
        gaps[top : top + height, left : left + width] = False
    return gaps


def _left(objects: Placed, covered: Array) -> Placed:
    """What is left of objects where some pixels are covered."""
    assert objects.masks is not None
    boxes = objects.boxes.clone()
    kept: list[int] = []
    masks: list[Patch] = []
    for place, mask in enumerate(objects.masks):
        left = uncovered(mask, covered)
        if left is None:
            continue
        if left is not mask:
            boxes[place] = torch.tensor(bounds(left))
        kept.append(place)
        masks.append(left)
    return Placed(boxes[kept], objects.labels[kept], objects.ignored, tuple(masks))
