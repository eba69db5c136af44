"""What a layer costs whatever its size: on maps so small that all of it is the way there, in work of the CPU.

To be run with OMP_NUM_THREADS=1: threads of a pool that wait for work count as if they had some.
"""

from __future__ import annotations

import argparse
import functools

import torch

from benchmarks.case import CPU_TIME, Case, Pair, Way
from benchmarks.measure import Effort
from benchmarks.options import add_device, check_device
from benchmarks.subjects import EVALUATED, OURS, THEIRS, Subject, make_inputs
from switchnorm.errors import InputError

SHAPE = (2, 8, 2, 2)
PHASES = ("forward + backward", "evaluation")
#: The most of Batch Norm's time, forward and backward.
MOST = 1.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    add_device(parser)
    parser.add_argument("--rounds", type=int, default=100, help="timings of each layer (default: 100)")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options leave out what belongs into the record."""
    return bool(options.rounds < 100)


def cases(options: argparse.Namespace) -> list[Case]:
    """Training, and evaluation."""
    device = check_device(options.device)
    if options.rounds < 1:
        raise InputError(f"--rounds must be 1 or more, got {options.rounds}")
    facts = {"job": "a layer's overhead", "layout": "contiguous", "dtype": "float32"}
    return [
        Case(
            facts=facts | {"phase": phase, "shape": "x".join(map(str, SHAPE))},
            ways=functools.partial(_ways, phase, device),
            pairs=tuple(
                Pair(name, OURS[name].rival, CPU_TIME, at_most=MOST if phase == PHASES[0] else None, headline=True)
                for name in _names(phase)
                if name in OURS
            ),
            effort=Effort(fewest=options.rounds, most=options.rounds, sample=0.02, warmups=5),
            device=device,
        )
        for phase in PHASES
    ]


def _names(phase: str) -> list[str]:
    """What is timed: in training nothing that has chosen, for then its logits have no gradient to look at."""
    return [name for name in EVALUATED if name in THEIRS or phase == PHASES[1] or not OURS[name].hardened]


def _ways(phase: str, device: str) -> dict[str, Way]:
    trains = phase == PHASES[0]
    inputs = [make_inputs(SHAPE, "contiguous", torch.float32, device, 0)]
    subjects = {name: Subject(name, inputs, trains) for name in _names(phase)}
    return {
        name: Way(
            subject.training if trains else subject.evaluation, check=functools.partial(getattr, subject, "agreed")
        )
        for name, subject in subjects.items()
    }
