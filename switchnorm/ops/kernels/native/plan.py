"""What calls of one shape share, told to the library once for each shape."""

from __future__ import annotations

import functools
import math
from array import array
from itertools import accumulate
from typing import NamedTuple

import torch

from switchnorm.ops.kernels.native.library import DTYPES, FLAT, RELU, SHARED, UNBIASED
from switchnorm.ops.partition import Ghost
from switchnorm.ops.projection import GIVEN, Call
from switchnorm.ops.projection import members as members_of
from switchnorm.ops.rule import groups_of


class Plan(NamedTuple):
    """The shared part of a call.

    Attributes:
        packed: as the library reads it. It holds addresses of the arrays.
        kinds: -1 "instance", 0 "batch", -2 running statistics in its place, else a number of groups.
        members: which of the logits are those of the statistics.
        ends: of each part of the batch, in samples.
        saved: how many numbers are saved for the backward pass.
        flags: of every call.
        batch: whether batch statistics are computed.
        contiguous: whether x is, or else channels-last.
        shape, dtype: of x.
        of_importance, of_affine, of_running: dtypes, see `plan`.
    """

    packed: bytes
    kinds: array[int]
    members: array[int]
    ends: array[int]
    saved: int
    flags: int
    batch: bool
    contiguous: bool
    shape: torch.Size
    dtype: torch.dtype
    of_importance: torch.dtype
    of_affine: torch.dtype
    of_running: torch.dtype


@functools.lru_cache(maxsize=4096)
def plan(
    call: Call,
    shape: torch.Size,
    contiguous: bool,
    dtype: torch.dtype,
    running: bool,
    of_importance: torch.dtype,
    of_radius: torch.dtype,
    of_affine: torch.dtype,
    of_running: torch.dtype,
) -> Plan:
    """The plan for a call.

    Args:
        call: what is done.
        shape: of x, (N, C, *S).
        contiguous: whether x is, or else channels-last.
        dtype: of x.
        running: whether running statistics are used in place of the batch's.
        of_importance, of_radius, of_affine, of_running: dtypes of the logits, of SparsestMax's radius, of scale
            and shift, and of running statistics.
    """
    statistics, eps, ghost, unbiased, relu, projection, tied = call
    samples, channels = shape[:2]
    flat = len(shape) == 2
    # A flat input leaves out the instance statistic, which it has not, but where importance is given without it.
    left = statistics if projection == GIVEN else members_of(statistics, flat)
    kinds = array("q", [_kind(name, running) for name in left])
    members = array("q", [statistics.index(name) for name in left])
    ends = array("q", _ends(ghost, samples))
    entries = [samples * kind if kind > 0 else len(ends) * channels * (kind == 0) for kind in kinds]
    packed = SHARED.pack(
        DTYPES[dtype],
        not contiguous,
        samples,
        channels,
        math.prod(shape[2:]),
        len(left),
        kinds.buffer_info()[0],
        len(statistics),
        members.buffer_info()[0],
        len(ends),
        ends.buffer_info()[0],
        projection,
        tied,
        DTYPES[of_importance],
        DTYPES[of_radius],
        DTYPES[of_affine],
        DTYPES[of_running],
        eps,
    )
    saved = faces(len(left)) + 3 * samples * channels + 2 * sum(entries)
    flags = (RELU if relu else 0) | (FLAT if flat and unbiased else 0) | (UNBIASED if unbiased else 0)
    dtypes = dtype, of_importance, of_affine, of_running
    return Plan(packed, kinds, members, ends, saved, flags, 0 in kinds, contiguous, shape, *dtypes)


def faces(statistics: int) -> int:
    """Numbers by which the backward pass knows the points of so many statistics; they come first of what is saved."""
    return 2 * (3 * statistics + 3)


def _kind(name: str, running: bool) -> int:
    if name == "batch":
        return -2 if running else 0
    return -1 if name == "instance" else groups_of(name)


def _ends(ghost: Ghost, samples: int) -> list[int]:
    if isinstance(ghost, tuple):
        return [*accumulate(ghost)]
    return [*range(ghost, samples, ghost), samples] if ghost else [samples]
