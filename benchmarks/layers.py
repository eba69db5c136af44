"""Normalization layers, forward and backward, against torch's: time, memory, and the floor that reading x sets."""

from __future__ import annotations

import argparse
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Call, Effort
from benchmarks.options import add_device, check_compiler, check_device, parse_shape
from benchmarks.shapes import Shape, detection_shapes, resnet50_shapes
from benchmarks.subjects import (
    DTYPES,
    EVALUATED,
    GROUPS,
    LAYERS,
    LAYOUTS,
    OURS,
    Layer,
    Replay,
    Subject,
    copying,
    make_inputs,
)
from switchnorm.errors import InputError

BATCHES = {"cpu": (16,), "cuda": (16, 32)}
#: Seconds that one timing covers at least.
SAMPLE = {"cpu": 0.005, "cuda": 0.002}
QUICK = ((16, 256, 28, 28), (16, 2048, 7, 7), (2, 512, 64, 64))
#: Compiling takes half a minute for each.
COMPILED = ((16, 256, 56, 56), (16, 512, 28, 28), (16, 2048, 7, 7))
#: The most that layers may take of their rivals' time on a CPU, forward and backward: contiguous, channels-last.
ON_CPU = {
    "SN": (0.65, 0.90),
    "SSN": (0.65, 0.90),
    "SN, batch only": (1.0, 1.0),
    "SN, instance only": (0.8, 0.4),
    "SN, group only": (1.0, 0.8),
    "SN, ghosts of 2": (0.8, 1.05),
    "SN + ReLU": (0.55, 0.70),
}
#: The same in evaluation, in either layout.
EVALUATED_ON_CPU = {"SN": 1.25, "SSN": 1.25, "SSN, all batch": 1.0}
GROUP = "SN, group only"
COPY = "copy"
PHASES = ("forward", "forward + backward", "evaluation")
#: Tensors from which on CUDA kernels, and not their launches, take the time.
LARGE_BYTES = 50e6


@dataclass(frozen=True)
class Setting:
    """The inputs that one group of layers gets."""

    shape: Shape
    layout: str
    dtype: str
    device: str
    layers: tuple[str, ...]
    graphs: bool
    trains: bool

    @property
    def bytes(self) -> int:
        """Of one tensor."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    add_device(parser)
    parser.add_argument("--quick", action="store_true", help="a few shapes, a minute or two")
    parser.add_argument("--shapes", nargs="+", type=parse_shape, metavar="NxCxHxW", help="these shapes only")
    parser.add_argument("--layers", nargs="+", choices=OURS, metavar="LAYER", help=f"only some of: {'; '.join(OURS)}")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: float32, and on CUDA all")
    parser.add_argument("--seconds", type=float, help="how long to time each case, at five rounds or more (default: 4)")
    parser.add_argument("--compile", action="store_true", help="also SN under torch.compile (at three shapes)")
    parser.add_argument("--graphs", action="store_true", help="on CUDA, replay graphs: no time for launches")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options leave out cases that belong into the record."""
    return bool(options.quick or options.shapes or options.layers or options.dtypes)


def cases(options: argparse.Namespace) -> list[Case]:
    """Every shape, layout and dtype: forward, with backward, and in evaluation."""
    device = check_device(options.device)
    if options.graphs and device != "cuda":
        raise InputError("--graphs needs CUDA; leave it out on a CPU")
    shapes = options.shapes or (QUICK if options.quick else _shapes(device))
    if any(LAYERS[name].path == "compiled" for shape in shapes for name in _layers(options, shape, True)):
        check_compiler(device)
    dtypes = options.dtypes or (DTYPES if device == "cuda" else ("float32",))
    seconds = options.seconds if options.seconds is not None else 1 if options.quick else 4
    effort = Effort(seconds, fewest=5, most=30, sample=SAMPLE[device], warmups=2)
    return [
        Case(
            facts=_facts(setting, phase),
            ways=functools.partial(_ways, setting, phase),
            pairs=tuple(_pairs(setting, phase)),
            effort=effort,
            device=device,
        )
        for dtype, shape, layout in itertools.product(dtypes, shapes, LAYOUTS)
        for trains in (True, False)
        if (names := _layers(options, shape, trains))
        for setting in [Setting(shape, layout, dtype, device, names, options.graphs, trains)]
        for phase in (PHASES[:2] if trains else PHASES[2:])
    ]


def _shapes(device: str) -> list[Shape]:
    return [*itertools.chain.from_iterable(map(resnet50_shapes, BATCHES[device])), *detection_shapes()]


def _layers(options: argparse.Namespace, shape: Shape, trains: bool) -> tuple[str, ...]:
    """Names of ours, each after torch's layer that it is held against, so that they run soon after each other."""
    compiled = options.compile and (options.shapes or shape in COMPILED)
    ours = options.layers or [name for name in OURS if compiled or OURS[name].path != "compiled"]
    ours = [name for name in ours if (not OURS[name].hardened if trains else name in EVALUATED)]
    names = dict.fromkeys(
        [*itertools.chain(*((OURS[name].rival, name) for name in ours)), *(["GroupNorm"] if trains else [])]
    )
    return tuple(name for name in names if shape[1] % GROUPS == 0 or name not in (GROUP, "GroupNorm"))


def _facts(setting: Setting, phase: str) -> dict[str, object]:
    shape = "x".join(map(str, setting.shape))
    return {"job": "layer", "phase": phase, "shape": shape, "layout": setting.layout, "dtype": setting.dtype}


def _ways(setting: Setting, phase: str) -> dict[str, Way]:
    subjects, copy = _subjects(setting)
    turns = _input_sets(setting)

    def way(subject: Subject) -> Way:
        calls: tuple[Call, ...] = (subject.forward, subject.training, subject.evaluation)
        call = calls[PHASES.index(phase)]
        facts = (lambda: subject.facts) if phase == PHASES[1] else dict
        return Way(Replay(call, turns) if setting.graphs else call, check=lambda: subject.agreed, facts=facts)

    ways = {name: way(subject) for name, subject in subjects.items()}
    return {COPY: Way(Replay(copy, turns) if setting.graphs else copy), **ways}


@functools.lru_cache(maxsize=1)
def _subjects(setting: Setting) -> tuple[dict[str, Subject], Call]:
    """The layers on their inputs, kept for the phases of one setting."""
    torch.compiler.reset()  # It gives up on code that it has met with too many shapes.
    dtype = DTYPES[setting.dtype]
    inputs = [
        make_inputs(setting.shape, setting.layout, dtype, setting.device, seed) for seed in range(_input_sets(setting))
    ]
    return {name: Subject(name, inputs, setting.trains) for name in setting.layers}, copying(inputs)


def _input_sets(setting: Setting) -> int:
    """How many inputs take turns, so that none is found in a GPU's second-level cache.

    A CPU's caches are left as they come: there the input of a layer is what the layer before has just written.
    """
    if setting.device == "cpu":
        return 1
    cache: int = torch.cuda.get_device_properties(0).L2_cache_size
    return max(1, min(32, math.ceil(2 * cache / setting.bytes)))


def _pairs(setting: Setting, phase: str) -> Iterator[Pair]:
    training = phase == PHASES[1]
    for name in setting.layers:
        layer = LAYERS[name]
        if setting.trains:
            yield _floor_pair(name, layer, setting, training)
        if layer.rival in setting.layers:
            target = _target(name, setting, phase)
            yield Pair(name, layer.rival, at_most=target, headline=phase != PHASES[0])
            if training:
                yield Pair(name, layer.rival, "peak_bytes")
        if layer.rival not in ("", "GroupNorm") and "GroupNorm" in setting.layers:
            yield Pair(name, "GroupNorm")
    few_on_cuda = setting.device == "cuda" and setting.shape[0] == 2 and setting.layout == "channels last"
    if GROUP in setting.layers and few_on_cuda and phase == PHASES[0]:
        yield Pair(GROUP, "GroupNorm", label="GroupNorm at N = 2", at_most=1 / 3, headline=True)


def _floor_pair(name: str, layer: Layer, setting: Setting, training: bool) -> Pair:
    """The quotient of a time and that of as many bytes in a copy, which reads x once and writes it once."""
    forward, backward = layer.floor()
    scale = (forward + training * backward) / 2
    if name == "SN" and setting.device == "cuda" and setting.bytes >= LARGE_BYTES:
        # 1.15 forward and 1.2 backward.
        target = (1.15 * forward + training * 1.2 * backward) / (2 * scale)
        return Pair(name, COPY, label="floor from 50 MB", scale=scale, at_most=target, headline=True)
    return Pair(name, COPY, label="floor", scale=scale)


def _target(name: str, setting: Setting, phase: str) -> float | None:
    """The most that a layer may take of its rival's time."""
    if phase == PHASES[2]:
        return EVALUATED_ON_CPU.get(name) if setting.device == "cpu" else None
    if phase == PHASES[0]:
        return None
    if setting.device == "cpu":
        return ON_CPU[name][setting.layout != "contiguous"] if name in ON_CPU else None
    if name == "SN":
        # In these cuDNN is the rival, at its best.
        cudnn = setting.layout == "channels last" and setting.dtype != "bfloat16"
        return 1.1 if cudnn else 1.0
    return 1 / 1.4 if name == "SN + add + ReLU" else None
