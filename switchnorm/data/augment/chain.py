"""What an augmentation is, and several of them in a row."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from torch import Tensor

#: `augment(images, seed, pass_index, index) -> images`: (N, C, H, W). Besides the picture, only the seed, the pass over
#: the data and the index in the dataset, (N,) int64, determine the result.
Augment = Callable[[Tensor, int, int, Tensor], Tensor]


def chain(*steps: Augment | None) -> Augment | None:
    """One augmentation that does all of `steps` one after the other, without those that are None; None if all are."""
    present = [step for step in steps if step is not None]
    return functools.partial(_one_by_one, present) if present else None


def _one_by_one(steps: Sequence[Augment], images: Tensor, seed: int, pass_index: int, index: Tensor) -> Tensor:
    for step in steps:
        images = step(images, seed, pass_index, index)
    return images
