"""torchvision's random transforms under counter-based randomness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from switchnorm.data.counter import Stream, seeds


@contextmanager
def reproducible_torchvision() -> Iterator[Callable[[int], Any]]:
    """Let torchvision draw from a seed and compute in one thread, and leave torch as it was.

    Its transforms draw from torch's CPU generator. How some round (the mean in a change of contrast) depends on the
    number of threads, which is another in worker processes.

    Yields:
        What seeds the generator. `torch.manual_seed` would seed the generators of other devices too.
    """
    state, threads = torch.default_generator.get_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield torch.default_generator.manual_seed
    finally:
        torch.set_num_threads(threads)
        torch.default_generator.set_state(state)


def make_policy(operations: int, magnitude: int) -> v2.RandAugment:
    """RandAugment (Cubuk et al., 2019): so many random operations in a row, of a strength from 0 to 30."""
    return v2.RandAugment(operations, magnitude, interpolation=InterpolationMode.BILINEAR)


def rand_augment(
    images: Tensor, seed: int, pass_index: int, index: Tensor, *, operations: int, magnitude: int
) -> Tensor:
    """RandAugment of every picture of a batch, one after the other.

    Args:
        images: (N, C, H, W) uint8.
        seed: the run's seed.
        pass_index: the pass over the data.
        index: (N,) int64, the samples' places in the dataset.
        operations: as `make_policy`.
        magnitude: as `make_policy`.

    Returns:
        (N, C, H, W) uint8.
    """
    policy = make_policy(operations, magnitude)
    result = torch.empty_like(images)
    with reproducible_torchvision() as set_seed:
        for place, own_seed in enumerate(seeds(seed, pass_index, index, Stream.POLICY)):
            set_seed(own_seed)
            result[place] = policy(images[place])
    return result
