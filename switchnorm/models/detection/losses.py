"""The losses of two-stage detectors: sums, divided by counts of the whole batch, over all processes.

DDP averages gradients over processes. With a divisor of each process's own, as torchvision has it, a process with few
objects would weigh them more; divided by the mean count over processes, the average is the gradient of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align


class Mean(Protocol):
    """From a count of this process to its mean over all of them."""

    def __call__(self, count: Tensor, /, least: float = 0.0) -> Tensor:
        """The total over all processes, or `least` where that is more, over their number.

        Args:
            count: of this process, () and floating-point.
            least: 1 where a sum over nothing is divided by 1, on any number of processes.
        """


def alone(count: Tensor, /, least: float = 0.0) -> Tensor:
    """The mean over processes where there is one."""
    return count.clamp(min=least)


def divisor(count: int, mean: Mean, like: Tensor, *, least: float = 1e-6) -> Tensor:
    """The mean of a count over all processes, () and never 0.

    Args:
        count: of this process.
        mean: over all.
        like: a tensor of the device on which it is needed, and of its precision, but for float32 at least.
        least: what the total over all processes counts as at least; any where sums over nothing are 0 too.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return mean(torch.tensor(float(count), dtype=dtype, device=like.device), least=least)


def proposal_losses(
    logits: Tensor, deltas: Tensor, positive: Tensor, negative: Tensor, wanted: Tensor, mean: Mean
) -> tuple[Tensor, Tensor]:
    """Of the region proposal network (Ren et al., "Faster R-CNN", NeurIPS 2015, equation 1).

    Args:
        logits: (A,) of all anchors of all pictures.
        deltas: (A, 4).
        positive, negative: indices of the anchors that are drawn.
        wanted: (len(positive), 4), the deltas of the positive ones' objects.
        mean: of a count over processes.

    Returns:
        The losses of objectness and of boxes.
    """
    drawn = torch.cat([logits[positive], logits[negative]]).to(wanted.dtype)
    labels = torch.zeros_like(drawn)
    labels[: positive.numel()] = 1
    count = divisor(drawn.numel(), mean, drawn)
    objectness = F.binary_cross_entropy_with_logits(drawn, labels, reduction="sum")
    boxes = F.smooth_l1_loss(deltas[positive].to(wanted.dtype), wanted, beta=1 / 9, reduction="sum")
    return objectness / count, boxes / count


def box_losses(
    logits: Tensor, deltas: Tensor, labels: Tensor, wanted: Tensor, mean: Mean, beta: float
) -> tuple[Tensor, Tensor]:
    """Of the box head (Girshick, "Fast R-CNN", ICCV 2015, equation 1).

    Args:
        logits: (K, 1 + C).
        deltas: (K, 4 (1 + C)).
        labels: (K,) int64, 0 for the background.
        wanted: (K, 4), the deltas of each region's object.
        mean: of a count over processes.
        beta: where the smooth L1 becomes linear.

    Returns:
        The losses of classes and of boxes.
    """
    count = divisor(labels.numel(), mean, logits)
    classes = F.cross_entropy(logits.to(wanted.dtype), labels, reduction="sum")
    positive = torch.where(labels > 0)[0]
    own = deltas.unflatten(1, (-1, 4))[positive, labels[positive]].to(wanted.dtype)
    boxes = F.smooth_l1_loss(own, wanted[positive], beta=beta, reduction="sum")
    return classes / count, boxes / count


def mask_loss(logits: Tensor, labels: Tensor, wanted: Tensor, mean: Mean) -> Tensor:
    """Of the mask head (He et al., "Mask R-CNN", ICCV 2017, section 3): cross entropy of the true class's mask.

    Args:
        logits: (K, 1 + C, M, M) of the positive regions.
        labels: (K,) int64.
        wanted: (K, M, M) in [0, 1].
        mean: of a count over processes.
    """
    count = divisor(wanted.numel(), mean, logits)
    own = logits[torch.arange(len(labels), device=labels.device), labels]
    return F.binary_cross_entropy_with_logits(own.to(wanted.dtype), wanted, reduction="sum") / count


def mask_targets(masks: Sequence[Tensor], boxes: Sequence[Tensor], objects: Sequence[Tensor], side: int) -> Tensor:
    """The part of each region's mask that lies in its box.

    Args:
        masks: of each picture, (K, H, W) of 0 and 1.
        boxes: of each picture, (k, 4) in pixels of the masks.
        objects: which mask belongs to each box, (k,) int64.
        side: of the result, in pixels.

    Returns:
        (k, side, side) of all pictures one after another.
    """
    parts = []
    for mask, box, which in zip(masks, boxes, objects, strict=True):
        if len(box) == 0:  # a picture without objects may have masks of any shape
            parts.append(box.new_zeros(0, side, side))
            continue
        regions = torch.cat([which[:, None].to(box), box], 1)
        parts.append(roi_align(mask[:, None].to(box), regions, (side, side), 1.0)[:, 0])
    return torch.cat(parts)
