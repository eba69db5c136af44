"""Correct before fast: layers against the reference, the gpu tests, a memory checker, and a search for races."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.agreement import MismatchError
from benchmarks.gpu.compiling import GROUPS, Task
from benchmarks.gpu.job import Job
from benchmarks.gpu.pool import end_with, work
from benchmarks.gpu.tests import Tests
from benchmarks.subjects import LAYERS, LAYOUTS, Inputs, make_inputs
from switchnorm.ops.kernels.triton import launch

ROOT = Path(__file__).parents[2]
#: One program and many; a map in pieces; and rows that vectors of 16 bytes do not divide.
SHAPES = ((2, 64, 8, 8), (32, 256, 56, 56), (2, 256, 200, 336), (5, 36, 33, 31))
AGREEING = ("SN", "SSN", "SN, batch only", "SN + add + ReLU", "SN, instance only", "SN, group only")
#: What is repeated in search of a race: statistics of many programs, in pieces, and of one program.
SOAKED = ((32, 2048, 7, 7), (2, 256, 200, 336), (32, 256, 56, 56))
REPEATS, AT_ONCE = 20_000, 50
#: Of the time: first layers, then races while tests and checker go on.
AGREEMENT, RACES = 0.5, 0.9
CHECKERS = ("compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer")


def check(job: Job) -> bool:
    """All of it; tests and checker have processes of their own beside the rest."""
    end = job.began + 0.97 * (job.deadline - job.began)
    tests = Tests(job, end)
    checker = _Checker(job)
    with contextlib.ExitStack() as stack:
        stack.callback(tests.kill)
        stack.callback(checker.kill)
        whole = _agreement(job, tests, job.began + AGREEMENT * (job.deadline - job.began))
        _races(job, tests, job.began + RACES * (job.deadline - job.began))
        return all((whole, checker.wait(end), tests.wait(end)))


def _agreement(job: Job, tests: Tests, end: float) -> bool:
    """Each layer against the reference in float64, in many processes, as compiling takes most of the time."""
    shapes: Sequence[tuple[int, ...]] = ((2, 32, 3, 4),) if job.setting.rehearsing else SHAPES
    dtypes = ("float32",) if job.setting.rehearsing else ("bfloat16", "float32")
    layers = AGREEING[:2] if job.setting.rehearsing else AGREEING
    cases = [
        Task(*case)
        for case in itertools.product(layers, shapes, LAYOUTS, dtypes)
        if case[0] not in GROUPS or case[1][1] % 32 == 0
    ]
    # The most common layers at one program and at many come first.
    cases.sort(key=lambda case: (shapes.index(case.shape) > 1, layers.index(case.layer)))
    count = 0
    # In float64 a case takes gigabytes of the device, and there are the tests beside.
    workers = max(1, job.setting.workers // 2)
    for done in work(cases, lambda case: _differs(case, job.setting.device), workers, end):
        case = cases[done.place].as_facts()
        why = done.error or done.result
        job.add({"check": "agreement", **case, "passed": not why})
        if why:
            job.fail(f"{', '.join(case.values())}: {why}")
        tests.keep()
        count += 1
    if count < len(cases):
        job.notes["agreement"] = f"{count} of {len(cases)} cases in time"
    return count == len(cases)


def _differs(case: Task, device: str) -> str:
    """How a layer differs from the reference; "" if it does not."""
    torch.set_num_threads(1)
    try:
        _ = case.subject(device).agreed
    except MismatchError as mismatch:
        return str(mismatch)
    if device == "cuda":
        torch.cuda.empty_cache()
    return ""


class _Repeated:
    """A layer and its input, forward and backward again and again."""

    def __init__(self, layer: str, shape: tuple[int, ...], layout: str, device: str) -> None:
        self.name = f"{layer}, {'x'.join(map(str, shape))}, {layout}"
        inputs: Inputs = make_inputs(shape, layout, torch.bfloat16 if device == "cuda" else torch.float32, device, 1)
        self.layer: nn.Module = LAYERS[layer].build(shape[1]).to(device)
        self.x, self.dy = inputs.x.requires_grad_(), inputs.dy
        self.first = [result.clone() for result in self.step()]
        self.wrong = torch.zeros((), dtype=torch.int64, device=device)

    def step(self) -> list[Tensor]:
        """y, and the gradients of x and of every parameter."""
        y: Tensor = self.layer(self.x)
        return [y.detach(), *torch.autograd.grad(y, [self.x, *self.layer.parameters()], self.dy)]

    def repeat(self) -> None:
        """Count, on the device, a step that is not the first one bit for bit."""
        differs = [(mine != first).any() for mine, first in zip(self.step(), self.first, strict=True)]
        self.wrong += torch.stack(differs).any()


def _races(job: Job, tests: Tests, end: float) -> None:
    """Repeats, each equal to the first, beside matrix products on another stream; counters at 0 afterwards."""
    device = job.setting.device
    shapes: Sequence[tuple[int, ...]] = ((2, 32, 3, 4),) if job.setting.rehearsing else SOAKED
    repeated = [_Repeated(*case, device) for case in itertools.product(("SN", "SSN"), shapes, LAYOUTS)]
    most = 1 if job.setting.rehearsing else REPEATS // len(repeated)
    matrix = torch.randn((8, 8) if job.setting.rehearsing else (4096, 4096), device=device).bfloat16()
    done = 0
    while done < most and time.monotonic() < end:
        for _ in range(min(AT_ONCE, most - done)):
            with _another_stream(device):
                matrix @ matrix
            for each in repeated:
                each.repeat()
            done += 1
        for each in repeated:
            each.wrong.item()  # waits, so that the other stream's queue stays short
        tests.keep()
    for each in repeated:
        wrong = int(each.wrong)
        job.add({"check": "race", "case": each.name, "repeats": done, "differing": wrong, "passed": not wrong})
        if wrong:
            job.fail(f"race: {each.name}: {wrong} of {done} repeats differ from the first")
    left = sum(int(buffer.count_nonzero()) for _, buffer in launch._counters.values())
    job.add({"check": "counters", "buffers": len(launch._counters), "not 0": left, "passed": not left})
    if left:
        job.fail(f"{left} counters are not 0 after the last launch")


_streams: dict[str, Any] = {}


@contextlib.contextmanager
def _another_stream(device: str) -> Iterator[None]:
    if device != "cuda":
        yield
        return
    stream = _streams.setdefault(device, torch.cuda.Stream())
    with torch.cuda.stream(stream):
        yield


class _Checker:
    """compute-sanitizer over a small case of each kernel, where the tool is there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process: subprocess.Popen[str] | None = None
        tool = next(filter(None, map(shutil.which, CHECKERS)), None)
        small = [sys.executable, "-m", "benchmarks.gpu.small", job.setting.device]
        if tool is None and not job.setting.rehearsing:
            job.notes["memcheck"] = "no compute-sanitizer here"
            return
        command = small if tool is None else [tool, "--tool", "memcheck", "--error-exitcode", "9", *small]
        environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=functools.partial(end_with, os.getpid()),
        )

    def wait(self, end: float) -> bool:
        """Its result, if it comes in time."""
        if self.process is None:
            return True
        try:
            output, _ = self.process.communicate(timeout=max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.job.notes["memcheck"] = "stopped by the time"
            return False
        lines = [line.removeprefix("=========").strip() for line in output.splitlines() if line.strip()]
        passed = self.process.returncode == 0
        self.job.add({"check": "memcheck", "passed": passed, "said": lines[-1:] if passed else lines[-30:]})
        if not passed:
            errors = [line for line in lines if "Error" in line or "Invalid" in line or "ERROR" in line]
            self.job.fail(f"memcheck: {'; '.join((errors or lines)[:3])}")
        return True

    def kill(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
