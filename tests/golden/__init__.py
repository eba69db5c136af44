"""Stand-in weights and pictures of the network records: the same numbers for the same key and shape everywhere."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor


def state_dict(keys: dict[str, tuple[list[int], str]]) -> dict[str, Tensor]:
    """A value for every key of a record, drawn from a generator that the key's checksum seeds."""
    return {
        key: torch.zeros(shape, dtype=torch.int64)
        if dtype.startswith("int")
        else torch.from_numpy(_draw(key, shape).astype(np.float32))
        for key, (shape, dtype) in keys.items()
    }


def images(batch: int, side: int, channels: int = 3) -> Tensor:
    """(batch, channels, side, side): noise, smoothed along both axes."""
    noise = np.random.default_rng(0).standard_normal((batch, channels, side, side))
    for axis in (2, 3):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)) / 2
    return torch.from_numpy(noise.astype(np.float32))


def _draw(key: str, shape: list[int]) -> np.ndarray:
    normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    leaf = key.rpartition(".")[2]
    if leaf == "running_var":
        return 1 + 0.2 * np.abs(normal)
    if leaf in ("running_mean", "bias"):
        return 0.1 * normal
    if leaf in ("mean_weight", "var_weight"):
        return normal
    if leaf == "radius":
        return np.full(shape, 0.6)
    if math.prod(shape) == max(shape):  # the scale of a normalization
        return 1 + 0.1 * normal
    return normal * math.sqrt(2 / math.prod(shape[1:]))
