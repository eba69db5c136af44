"""Plans of the Triton path against each other, shape by shape: compiled side by side, timed alone, kernel by kernel."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.agreement import TOLERANCES, require_agreement
from benchmarks.gpu.job import Entry, Job
from benchmarks.gpu.kernels import REPEATS, kernels_of
from benchmarks.gpu.pool import told, work
from benchmarks.shapes import Shape
from benchmarks.subjects import DTYPES, LAYOUTS, SIZED_AS, Inputs, Subject, copying, make_inputs
from switchnorm.errors import InputError
from switchnorm.ops.kernels.triton import tuning as tables
from switchnorm.ops.kernels.triton.cut import Plan, Tuning
from switchnorm.ops.kernels.triton.device import device_of
from switchnorm.ops.kernels.triton.plan import candidates, plans, shape_of

LAYER = "SN"
#: A shape for each length of maps: of ResNet-50, of CIFAR's ResNet-20, of detectors at two pictures.
SHAPES: tuple[Shape, ...] = (
    (32, 256, 56, 56),
    (32, 512, 28, 28),
    (32, 1024, 14, 14),
    (32, 2048, 7, 7),
    (32, 64, 112, 112),
    (2, 256, 200, 336),
    (128, 64, 8, 8),
    (128, 32, 16, 16),
    (128, 16, 32, 32),
    (2, 1024, 50, 84),
    (2, 512, 100, 168),
    (2, 2048, 25, 42),
)
#: Dtypes and how many of the candidates, in the order in which they are tried.
ROUNDS = (("bfloat16", 0, 8), ("float32", 0, 5), ("bfloat16", 8, 20), ("float32", 5, 12))
#: Of the time: what compiling may take.
COMPILING = 0.65
#: Inputs that take turns, so that little of one is found in the second-level cache.
BYTES = 200e6
#: How much faster than the model's own choice a plan must be for a table to prefer it.
WORTH = 0.97
#: How often x is read or written by forward and backward together.
PASSES = 8


class Task(NamedTuple):
    """A candidate at a shape."""

    shape: Shape
    layout: str
    dtype: str
    tuning: Tuning
    plan: Plan

    @property
    def case(self) -> tuple[str, str, str]:
        """Where candidates are compared."""
        return "x".join(map(str, self.shape)), self.layout, self.dtype

    @property
    def channels_last(self) -> bool:
        """Whether the maps lie so."""
        return self.layout != next(iter(LAYOUTS))


def tune(job: Job) -> bool:
    """Time every candidate whose kernels could be compiled in time, and make a table of the fastest."""
    device = job.setting.device
    began = time.monotonic()
    # Planning asks what device it is for, which begins to use CUDA: a process of its own, before others are forked.
    (planned,) = work([job.setting.rehearsing], _planned, 1, job.deadline)
    if planned.error:
        raise RuntimeError(planned.error)
    tasks: list[Task] = planned.result
    until = began + COMPILING * (job.deadline - began)
    compiled = []
    for done in work(tasks, lambda task: _compile(task, device), job.setting.workers, until):
        if done.error:
            job.fail(f"{', '.join(tasks[done.place].case)}, {_brief(tasks[done.place].tuning)}: {done.error}")
        else:
            compiled.append(done.place)
    took = round(time.monotonic() - began, 1)
    job.notes["candidates"] = {"all": len(tasks), "compiled": len(compiled), "seconds": took}
    job.notes["copy_bytes_per_us"] = round(_copied(device))
    by_case: defaultdict[tuple[str, str, str], list[Task]] = defaultdict(list)
    for place in sorted(compiled):
        by_case[tasks[place].case].append(tasks[place])
    for of_case in by_case.values():
        if job.left() < 1:
            return False
        _compare(job, of_case)
    return len(compiled) + len(job.failures) == len(tasks)


def _planned(rehearsing: bool) -> list[Task]:
    """All candidates, those first that matter most."""
    shapes: Sequence[Shape] = ((2, 32, 3, 4),) if rehearsing else SHAPES
    rounds = (("float32", 0, 2),) if rehearsing else ROUNDS
    device = torch.device("cpu" if rehearsing else "cuda")
    return [
        Task(shape, layout, dtype, *found)
        for dtype, first, end in rounds
        for shape in shapes
        for layout in LAYOUTS
        for found in itertools.islice(_candidates(shape, layout, dtype, device), first, end)
    ]


def _candidates(shape: Shape, layout: str, dtype: str, device: torch.device) -> Iterator[tuple[Tuning, Plan]]:
    x = torch.empty(shape, dtype=DTYPES[dtype], device="meta").contiguous(memory_format=LAYOUTS[layout])
    yield from candidates(shape_of(x), device_of(device)).items()


def _compile(task: Task, device: str) -> None:
    torch.set_num_threads(1)
    inputs = make_inputs(task.shape, task.layout, DTYPES[task.dtype], device, 0)
    with plans({shape_of(inputs.x): task.plan}):
        Subject(LAYER, [inputs]).training()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def _compare(job: Job, tasks: Sequence[Task]) -> None:
    """Time each candidate's kernels: the first agrees with the reference, the others with the first."""
    first = tasks[0]
    device, inputs = job.setting.device, _inputs(first, job.setting.device)
    x = inputs[0].x
    floor = round(PASSES * x.numel() * x.element_size() / job.notes["copy_bytes_per_us"], 2)
    timed, checked = Subject(LAYER, inputs), Subject(LAYER, inputs[:1])
    right: dict[str, Tensor | None] = {}
    for task in tasks:
        try:
            with plans({shape_of(x): task.plan}):
                found = {"y": checked.forward(), **checked.training()}
                if not right:
                    _ = checked.agreed
                    right = found
                require_agreement(found, right, TOLERANCES[x.dtype], SIZED_AS)
                kernels = kernels_of(timed.training, device, 2 if device == "cpu" else REPEATS)
        except Exception as error:
            job.fail(f"{', '.join(task.case)}, {_brief(task.tuning)}: {told(error)}")
            if "CUDA error" in str(error):
                raise
            continue
        job.rows.append(
            {
                **dict(zip(("shape", "layout", "dtype"), task.case, strict=True)),
                "us": kernels.total,
                "floor_us": floor,
                "kernels": kernels.us,
                "launches": kernels.launches,
                "tuning": task.tuning._asdict(),
                "maps": {"channels_last": task.channels_last, "itemsize": x.element_size(), "size": task.plan.size},
                "programs": task.plan.programs,
            }
        )
    job.notes["tunings"] = [{**what._asdict(), **tuning._asdict()} for what, tuning in fastest(job.rows).items()]
    job.write()


def _inputs(task: Task, device: str) -> list[Inputs]:
    size = math.prod(task.shape) * DTYPES[task.dtype].itemsize
    turns = 1 if device == "cpu" else max(2, min(6, int(BYTES / size)))
    return [make_inputs(task.shape, task.layout, DTYPES[task.dtype], device, seed) for seed in range(turns)]


def _copied(device: str) -> float:
    """Bytes per microsecond of a copy, read and written, which sets the floors."""
    shape = (2, 32, 3, 4) if device == "cpu" else (64, 256, 128, 128)
    inputs = [make_inputs(shape, "contiguous", torch.float32, device, 0)]
    us = kernels_of(copying(inputs), device).total
    return 2 * inputs[0].x.numel() * 4 / us


def fastest(rows: Sequence[Entry]) -> dict[tables.Class, Tuning]:
    """What a table should say of each length of maps: the first candidate, the model's, unless another is worth it.

    The longest maps stand for all that are longer.
    """
    cases: defaultdict[tables.Class, list[Entry]] = defaultdict(list)
    for row in rows:
        cases[tables.Class(**row["maps"])].append(row)
    longest = {what[:2]: max(other.size or 0 for other in cases if other[:2] == what[:2]) for what in cases}
    found = {}
    for what, of_case in sorted(cases.items()):
        best = min(of_case, key=lambda row: float(row["us"]))
        chosen = best if best["us"] < WORTH * of_case[0]["us"] else of_case[0]
        size = None if what.size == longest[what[:2]] else what.size
        found[what._replace(size=size)] = Tuning(**chosen["tuning"])
    return found


def install(record: Mapping[str, Any]) -> None:
    """Make the package's table for the device of what a record of tuning found.

    Raises:
        InputError: it found nothing.
    """
    if not record.get("tunings"):
        raise InputError("the record of tuning has no tunings; run that part first")
    names = record["versions"] | {"triton": record["device"]["triton"]}
    measured = f"{record['date']}, torch {names['torch']}, triton {names['triton']}"
    tunings = {
        tables.Class(*(entry[name] for name in tables.Class._fields)): Tuning(*(entry[name] for name in Tuning._fields))
        for entry in record["tunings"]
    }
    name = record["device"]["name"]
    tables.write(tables.path_of(name), name, measured, tunings)


def _brief(tuning: Tuning) -> str:
    return ", ".join(f"{name} {value}" for name, value in tuning._asdict().items())
