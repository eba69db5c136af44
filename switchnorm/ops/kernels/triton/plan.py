"""How a shape is cut into programs: on the host, once per shape and device.

Measured on an H200: programs that live long win, since each begins with a chain of small loads (1 to 2 microseconds)
and the last of those that share a statistic merges what all wrote. So a launch is one wave, if it can be: as many
programs as the device holds at once, each with a block of 8 KB on its way while it works on another. Four programs of
four warps and 128 registers a thread keep 32 KB in flight on every multiprocessor, where 24 are enough; and four times
132 multiprocessors are little more than 512, so that the powers of two that shapes are made of fill them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from switchnorm.ops.kernels.layouts import maps
from switchnorm.ops.kernels.triton.cut import MERGED, Plan, Shape, Tuning, cuts, untuned
from switchnorm.ops.kernels.triton.device import WARP, Device, device_of
from switchnorm.ops.kernels.triton.tuning import tuning_for

#: What the model of a launch takes as given, in ns and bytes per ns and multiprocessor (H200): a program's beginning,
#: what each block of samples adds, the wait for a block, the memory's rate.
BEGINNING = 1500.0
SAMPLE = 300.0
WAIT = 1000.0
RATE = 32.0

#: Most tensors that a launch reads, in blocks of half the size: dy, x and y, where a residual was added before ReLU.
READ = 3

#: Plans that replace those of the model, and what forgets what it derived from plans.
_given: dict[Shape, Plan] = {}
_caches: list[Callable[[], None]] = []


def derived_from_plans(cached: Any) -> Any:
    """Have a cached function (`functools.lru_cache`) forget its results where other plans begin to hold."""
    _caches.append(cached.cache_clear)
    return cached


def shape_of(x: Tensor) -> Shape:
    """The shape of x, contiguous or channels-last."""
    samples, channels, size = maps(x).shape
    return Shape(samples, channels, size, size == 1 or not x.is_contiguous(), x.element_size())


def plan(x: Tensor) -> Plan:
    """The plan for x, contiguous or channels-last."""
    return plan_for(shape_of(x), device_of(x.device))


@derived_from_plans
@functools.lru_cache(maxsize=4096)
def plan_for(shape: Shape, device: Device) -> Plan:
    """The plan for a shape: of `plans`, else what the model takes for the fastest, of the cuts that tables allow."""
    given = _given.get(shape)
    return given or _fastest(shape, tuning_for(shape, device) or untuned(shape), device)


@contextlib.contextmanager
def plans(given: Mapping[Shape, Plan]) -> Iterator[None]:
    """Other plans for some shapes, for a block of code."""
    before = dict(_given)
    _given.update(given)
    _forget()
    try:
        yield
    finally:
        _given.clear()
        _given.update(before)
        _forget()


def candidates(shape: Shape, device: Device) -> dict[Tuning, Plan]:
    """Plans that are worth measuring, the model's own choice first, by what a table would say to get them."""
    usual = untuned(shape)
    tunings = [
        Tuning(elements, row, warps, programs, usual.stages)
        for elements, row, (warps, programs) in itertools.product(
            (usual.elements, usual.elements // 2, usual.elements * 2),
            (usual.row, usual.row * 2, usual.row * 4, usual.row // 2),
            ((4, 4), (8, 2), (4, 3), (4, 6), (8, 3), (8, 4)),
        )
        if 8 <= elements // (warps * WARP) <= 32
    ]
    tunings += [usual._replace(stages=stages) for stages in (2, 4)]
    # Those that differ least from the usual one first.
    tunings.sort(key=lambda tuning: sum(ours != other for ours, other in zip(tuning, usual, strict=True)))
    found: dict[Plan, Tuning] = {}
    for tuning in tunings:
        found.setdefault(_fastest(shape, tuning, device), tuning)
    return {tuning: cut for cut, tuning in found.items()}


def _fastest(shape: Shape, tuning: Tuning, device: Device) -> Plan:
    return min(cuts(shape, tuning, device), key=lambda cut: predict(cut, shape.itemsize, device).time)


def _forget() -> None:
    for clear in _caches:
        clear()


class Prediction(NamedTuple):
    """What the model says about the launch that reads x once.

    Attributes:
        resident: programs that a multiprocessor holds at once.
        waves: how often all of them are replaced; 1 where all programs find a place at once.
        efficiency: share of the time of the places in use, from the first program's begin to the last one's end, that
            has work; the places in use are those of all waves, or in a single wave as many as there are programs,
            rounded up to the same number on every multiprocessor.
        flight: bytes on their way to a multiprocessor.
        time: ns.
    """

    resident: int
    waves: int
    efficiency: float
    flight: float
    time: float


def predict(cut: Plan, itemsize: int, device: Device) -> Prediction:
    """What a plan comes to."""
    block = cut.block_n * cut.block_c * cut.block_l * itemsize
    held = device.resident(cut.warps, cut.registers, READ * (cut.stages - 1) * block // 2)
    resident = min(held, -(-cut.programs // device.multiprocessors))
    waves = -(-cut.programs // (resident * device.multiprocessors))
    # What blocks hold: neither the last of a map nor that of the samples or channels need be full.
    samples, rounds = -(-cut.own // cut.block_n), cut.steps * -(-cut.own // cut.block_n)
    largest = cut.own * min(cut.block_c, cut.channels) * min(cut.piece, cut.size) * itemsize
    total = cut.samples * cut.channels * cut.size * itemsize
    # Blocks of one map follow each other, and short maps of one sample those of another, where 4 bytes can be copied.
    waiting = min(cut.stages - 1, rounds if cut.whole else cut.steps) if cut.align * itemsize >= 4 else 1
    flight = resident * waiting * largest / rounds
    turn = max(WAIT / waiting, resident * largest / rounds / RATE)
    merged = -(-cut.own // cut.merge_n(cut.own)) + -(-cut.samples * cut.block_c // MERGED)
    return Prediction(
        held,
        waves,
        total / (waves * resident * device.multiprocessors * largest),
        flight,
        waves * (BEGINNING + samples * SAMPLE + rounds * turn) + merged * WAIT,
    )
