"""Randomness without state: each number is a function of (seed, pass, index, stream), the same on every device.

No generator advances, so a number depends neither on the order of draws nor on which other samples are drawn for.

The function is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), nested: the
seed picks a number of the sequence that starts at 0, that number starts the sequence in which the pass picks, and so
on through stream and index.
"""

from __future__ import annotations

import enum
import functools
import statistics

import torch
from torch import Tensor

# The published constants are unsigned; torch's int64 multiplies and adds modulo 2**64 just as well.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MULTIPLIER_2 = 0x94D049BB133111EB - (1 << 64)


class Stream(enum.IntEnum):
    """What a random number is for. Renumbering changes every seeded run, so new purposes go at the end."""

    ORDER = 0
    CROP_TOP = 1
    CROP_LEFT = 2
    FLIP = 3
    WINDOW = 4
    COLOR = 5
    POLICY = 6
    LIGHTING = 7  # and the 2 after it: one per principal component
    ERASING = 10
    ERASING_AREA = 11  # and the 9 after it: one per attempt
    ERASING_RATIO = 21  # and the 9 after it
    ERASING_TOP = 31
    ERASING_LEFT = 32
    SHORT_SIDE = 33
    SCALE = 34
    BATCH_ORDER = 35
    FLIP_VERTICAL = 36
    WINDOW_TOP = 37
    WINDOW_LEFT = 38
    MOSAIC = 39  # and the 2 after it: whether there is one, and where its parts meet, down and across
    PARTNER = 42
    COPY_PASTE = 43
    PASTED = 44
    SAMPLING = 45


def uniform(seed: int, pass_index: int, index: Tensor, stream: int) -> Tensor:
    """Uniform numbers in [0, 1).

    Args:
        seed: the run's seed, any int64.
        pass_index: the pass over the data.
        index: (...) int64, the samples that need a number.
        stream: what the number is for, a `Stream`.

    Returns:
        (...) float32, multiples of 2**-24, on the device of `index`.
    """
    return _shift(_hash(seed, pass_index, index, stream), 40) * 2.0**-24


def integers(seed: int, pass_index: int, index: Tensor, stream: int, high: int) -> Tensor:
    """Uniform integers in [0, high).

    Args:
        seed: the run's seed, any int64.
        pass_index: the pass over the data.
        index: (...) int64, the samples that need a number.
        stream: what the number is for, a `Stream`.
        high: the number of values, at most 2**31; no value is likelier than another by more than high / 2**32.

    Returns:
        (...) int64, on the device of `index`.
    """
    return _shift(_hash(seed, pass_index, index, stream), 32) * high >> 32


def normal(seed: int, pass_index: int, index: Tensor, stream: int) -> Tensor:
    """Normal numbers of mean 0 and deviation 1: the quantiles of `uniform`, none beyond 5.5.

    Args:
        seed: the run's seed, any int64.
        pass_index: the pass over the data.
        index: (...) int64, the samples that need a number.
        stream: what the number is for, a `Stream`.

    Returns:
        (...) float32 on the device of `index`, the same on each; on CUDA this waits for the device.
    """
    # In Python: how a loop over a tensor rounds such a function may depend on a number's place in it.
    quantile = statistics.NormalDist().inv_cdf
    numbers = [quantile(number + 2.0**-25) for number in uniform(seed, pass_index, index, stream).flatten().tolist()]
    return torch.tensor(numbers, device=index.device).view(index.shape)


def seeds(seed: int, pass_index: int, index: Tensor, stream: int) -> list[int]:
    """A seed per sample, for generators that others draw from: an int64 for each entry of `index` (n,)."""
    values: list[int] = _hash(seed, pass_index, index, stream).tolist()
    return values


def permutation(
    seed: int, pass_index: int, n: int, device: torch.device | str = "cpu", *, stream: int = Stream.ORDER
) -> Tensor:
    """The order of n samples or batches in a pass: a permutation of 0..n-1, (n,) int64 on `device`."""
    keys = _hash(seed, pass_index, torch.arange(n, device=device), stream)
    return keys.argsort(stable=True)


def splitmix64(state: int, index: Tensor) -> Tensor:
    """The numbers at positions `index` (...) of the splitmix64 sequence that starts at `state`; all of them int64."""
    z = (index + 1) * _GAMMA + state
    z = (z ^ _shift(z, 30)) * _MULTIPLIER_1
    z = (z ^ _shift(z, 27)) * _MULTIPLIER_2
    return z ^ _shift(z, 31)


def _hash(seed: int, pass_index: int, index: Tensor, stream: int) -> Tensor:
    return splitmix64(_state(seed, pass_index, stream), index)


@functools.lru_cache(maxsize=64)  # a batch asks for the states that the batch before asked for
def _state(*numbers: int) -> int:
    state = 0
    for number in numbers:
        state = int(splitmix64(state, torch.tensor(number)))
    return state


def _shift(z: Tensor, bits: int) -> Tensor:
    # A signed shift drags the sign bit along; the mask makes it the logical shift of unsigned numbers.
    return (z >> bits) & ((1 << (64 - bits)) - 1)
