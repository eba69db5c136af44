"""Triton's kernels compiled side by side before anybody waits for them one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from benchmarks.gpu.job import Job
from benchmarks.gpu.pool import work
from benchmarks.networks import CHECKED_BATCH, CHECKED_SIZE
from benchmarks.shapes import Shape, detection_shapes, resnet50_shapes
from benchmarks.subjects import DTYPES, LAYOUTS, Subject, make_inputs

MIXTURES = ("SN", "SSN")
GROUPS = ("SN, group only",)
SINGLES = ("SN, batch only", *GROUPS, "SN, instance only")
#: Maps of CIFAR's ResNet-20, and its batches.
_CIFAR = ((16, 32, 32), (32, 16, 16), (64, 8, 8))
_CIFAR_BATCHES = (128, 16)


class Task(NamedTuple):
    """A layer, forward and backward once."""

    layer: str
    shape: Shape
    layout: str
    dtype: str

    def as_facts(self) -> dict[str, str]:
        """As a row of a record has it."""
        return {**self._asdict(), "shape": "x".join(map(str, self.shape))}

    def subject(self, device: str) -> Subject:
        """The layer with an input."""
        return Subject(self.layer, [make_inputs(self.shape, self.layout, DTYPES[self.dtype], device, 0)])


def prepare(job: Job) -> bool:
    """Run every layer that a later part times, once, in many processes: their kernels are on the disk then."""
    os.nice(10)  # what goes on beside it comes first
    tasks = list(dict.fromkeys(_rehearsed() if job.setting.rehearsing else _tasks()))
    job.notes["tasks"] = len(tasks)
    for done in work(tasks, lambda task: _run(task, job.setting.device), job.setting.workers, job.deadline):
        task = tasks[done.place]
        if done.error:
            job.fail(f"{', '.join(map(str, task))}: {done.error}")
        else:
            job.add(dict(task.as_facts()))
    return len(job.rows) + len(job.failures) == len(tasks)


def _tasks() -> Iterator[Task]:
    """What is timed first comes first."""
    network = resnet50_shapes(32)
    detectors = detection_shapes()[:4]
    cifar = [(batch, *shape) for batch in _CIFAR_BATCHES for shape in _CIFAR]
    yield from _each(MIXTURES, network, "bfloat16")
    yield from _each(MIXTURES, _checked(network), "float32")
    yield from _each(MIXTURES, cifar, "float32")
    yield from _each(MIXTURES, detectors, "bfloat16")
    yield from _each(SINGLES, (network[2], detectors[0]), "bfloat16")
    yield from _each(GROUPS, network, "bfloat16")
    yield from _each(GROUPS, _checked(network), "float32")
    yield from _each(MIXTURES, network, "float16")
    yield from _each(MIXTURES, network, "float32")
    for dtype in ("bfloat16", "float32", "float16"):
        yield from _each(SINGLES, (*network, *detectors), dtype)


def _each(layers: Sequence[str], shapes: Sequence[Shape], dtype: str) -> Iterator[Task]:
    for shape in shapes:
        yield from (Task(layer, shape, layout, dtype) for layout in LAYOUTS for layer in layers)


def _checked(shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes of a network at the batch and size at which it is compared with the reference."""
    return [
        (CHECKED_BATCH, channels, *(side * CHECKED_SIZE // 224 for side in sides)) for _, channels, *sides in shapes
    ]


def _rehearsed() -> Iterator[Task]:
    yield from _each(("SN",), ((2, 32, 3, 4),), "float32")


def _run(task: Task, device: str) -> None:
    torch.set_num_threads(1)
    task.subject(device).training()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
