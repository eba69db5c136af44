"""Which anchors and regions the losses are over: drawn at random, and of each picture the same wherever it is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_area

#: A crowd's share of a box above which this is neither object nor background (Detectron's CROWD_FILTER_THRESH).
CROWD_SHARE = 0.7


@dataclass(frozen=True)
class Sampler:
    """Draws so many positive and negative boxes of each picture.

    Attributes:
        per_image: boxes of a picture, if there are as many.
        positive: the share of these that are positive, if there are as many.
        stream: tells the draws of anchors from those of regions.
    """

    per_image: int
    positive: float
    stream: int

    def __call__(self, labels: Sequence[Tensor], draws: Sequence[int] | None) -> list[tuple[Tensor, Tensor]]:
        """Indices of the boxes that are drawn.

        Args:
            labels: of the boxes of each picture, (K,): above 0 positive, 0 negative, below 0 neither.
            draws: the key of each picture's random numbers, which decides them alone; None draws from torch's own
                generator, in the order in which torchvision does.

        Returns:
            Of each picture the indices of positive and of negative boxes, each (k,) int64, rising.
        """
        return [self._of_one(each, None if draws is None else draws[i]) for i, each in enumerate(labels)]

    def _of_one(self, labels: Tensor, draw: int | None) -> tuple[Tensor, Tensor]:
        generator = None if draw is None else torch.Generator().manual_seed(draw ^ self.stream)
        positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
        some = min(positive.numel(), int(self.per_image * self.positive))
        rest = min(negative.numel(), self.per_image - some)
        return _some(positive, some, generator), _some(negative, rest, generator)


def _some(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` of the indices (n,), rising."""
    if generator is None:
        order = torch.randperm(indices.numel(), device=indices.device)
    else:
        order = torch.randperm(indices.numel(), generator=generator).to(indices.device)
    return indices[order[:count]].sort().values


def draws_of(targets: Sequence[Mapping[str, Tensor]]) -> list[int] | None:
    """The keys of the pictures' random numbers; None where the targets have none."""
    return [int(target["draw"]) for target in targets] if targets and "draw" in targets[0] else None


def in_crowd(boxes: Tensor, target: Mapping[str, Tensor]) -> Tensor | None:
    """Which boxes (K, 4) lie in a region of the target that does not count, (K,) bool; None where it has none."""
    ignored = target.get("ignored")
    if ignored is None or ignored.numel() == 0:
        return None
    near = torch.maximum(boxes[:, None, :2], ignored[:, :2])
    common = (torch.minimum(boxes[:, None, 2:], ignored[:, 2:]) - near).clamp(min=0).prod(2)
    return (common > CROWD_SHARE * box_area(boxes)[:, None]).any(1)
