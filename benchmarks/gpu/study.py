"""What a CUDA device shows in minutes: correctness, tuning, layers, networks, training; each in its share of the time.

Every part is a process of its own with a record of its own, written as it goes: whatever stops or breaks one leaves the
others. `--rehearse` does the same on the CPU, as small as can be: the kernels of layers in Triton's interpreter
(TRITON_INTERPRET=1), and whole networks, for which that would take minutes, on the CPU path.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.gpu.compiling import prepare
from benchmarks.gpu.correctness import check
from benchmarks.gpu.device import describe, slug
from benchmarks.gpu.geometry import run_geometry
from benchmarks.gpu.job import Job, Part, Setting, path_of
from benchmarks.gpu.pool import CONTEXT, end_with, told
from benchmarks.gpu.suites import run_layers, run_networks, run_step
from benchmarks.gpu.summary import summary
from benchmarks.gpu.tuning import install, tune
from switchnorm.errors import InputError
from switchnorm.ops.kernels.choice import VARIABLE, KernelFallback
from switchnorm.processes import cores

PARTS = (
    Part("prepare", 0.14, prepare),
    Part("correctness", 0.20, check),
    Part("tuning", 0.13, tune),
    Part("layers", 0.18, run_layers),
    Part("networks", 0.16, run_networks),
    Part("step", 0.08, run_step),
    Part("geometry", 0.11, run_geometry),
)
NAMES = tuple(part.name for part in PARTS)
#: What makes processors busy, and times nothing, goes on beside another part that times nothing, in the time of both.
BESIDE = ("prepare", "correctness")
#: Parts of whole networks.
NETWORKS = ("networks", "step", "geometry")
#: Seconds that a part may take beyond its time, before it is killed; that the end takes; and that a device may take to
#: answer.
GRACE, ENDING, ANSWER = 1.5, 3.0, 90.0
TABLE = "table.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study's own flags."""
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="for everything (default: 540)")
    parser.add_argument("--out", type=Path, help="folder of the records (default: benchmarks/results/gpu/DEVICE)")
    parser.add_argument("--data", type=Path, help="CIFAR-10's binary version, or what benchmarks.gpu.pictures packs")
    parser.add_argument("--parts", nargs="+", choices=NAMES, default=NAMES, metavar="PART", help=", ".join(NAMES))
    parser.add_argument("--workers", type=int, help="processes that compile and test (default: a core each, but 2)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, in Triton's interpreter")
    parser.add_argument("--install", action="store_true", help="with --show: tunings found become the package's table")
    parser.add_argument("--show", action="store_true", help="only print what the records in --out say")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Run the parts one after another and print the table; exit with 1 if a result was wrong."""
    end = time.monotonic() + options.budget - ENDING
    _check(options)
    if options.show:
        print(summary(options.out))
        if options.install:
            install(record.read(path_of(options.out, "tuning")))
        return
    device = "cpu" if options.rehearse else "cuda"
    head = _probe(device, arguments)
    name = head["device"]["name"]
    out = options.out or record.RESULTS / "gpu" / slug(name)
    setting = Setting(out, device, head, options.data, options.workers or max(1, cores() - 2))
    chosen = [part for part in PARTS if part.name in options.parts]
    print(f"{name}: {', '.join(options.parts)} in {options.budget:.0f} s", flush=True)
    beside: _Process | None = None
    try:
        for place, part in enumerate(chosen):
            if tuple(each.name for each in chosen[place : place + 2]) == BESIDE:
                beside = _Process(part, setting, _deadline(chosen[place:], end, 2))
                continue
            _Process(part, setting, beside.job.deadline if beside else _deadline(chosen[place:], end)).wait()
            if beside is not None:
                beside.wait()
                beside = None
    finally:
        if beside is not None:
            beside.kill()
        shown = summary(out)
        with contextlib.suppress(OSError):
            (out / TABLE).write_text(shown + "\n")
        print(shown, flush=True)
    if "FAILED" in shown:
        raise SystemExit(1)


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything starts."""
    if options.show and options.out is None:
        raise InputError("--show needs --out, the folder of the records")
    if options.install and not options.show:
        raise InputError("--install needs --show and --out, the folder of the records")
    if options.show:
        return
    if not options.budget > 0:
        raise InputError(f"--budget must be more than 0 seconds, got {options.budget}")
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers must be 1 or more, got {options.workers}")
    interpreting = os.environ.get("TRITON_INTERPRET") == "1"
    if options.rehearse and not (interpreting and options.out):
        raise InputError("--rehearse needs --out, so that no record is written over, and TRITON_INTERPRET=1")
    if not options.rehearse and interpreting:
        raise InputError("TRITON_INTERPRET=1 is for --rehearse; unset it to measure a device")


def _deadline(parts: Sequence[Part], end: float, count: int = 1) -> float:
    """When the first of the parts, or so many, have to end, by their share of what is left."""
    now = time.monotonic()
    return now + (end - now) * sum(part.share for part in parts[:count]) / sum(part.share for part in parts)


class _Process:
    """A part at work in a process, and a group of processes, of its own."""

    def __init__(self, part: Part, setting: Setting, deadline: float) -> None:
        self.job = Job(part.name, setting, deadline)
        print(f"\n== {part.name}: {self.job.left():.0f} s", flush=True)
        self.process = CONTEXT.Process(target=_work, args=(part, self.job))
        self.process.start()

    def wait(self) -> None:
        """Until it ends, or its time does."""
        self.process.join(max(0.0, self.job.left()) + GRACE)
        killed = self.process.exitcode is None
        self.kill()
        _mark(self.job, "killed, for its time was up" if killed else f"ended with {self.process.exitcode}")

    def kill(self) -> None:
        """End it with all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            assert self.process.pid is not None
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def _work(part: Part, job: Job) -> None:
    """What the process of a part does."""
    parent = os.getppid()
    os.setpgid(0, 0)
    end_with(parent)
    if job.setting.rehearsing:
        os.environ[VARIABLE] = "cpu" if part.name in NETWORKS else "triton"
    # A part that quietly measured something else would say nothing.
    warnings.simplefilter("error", KernelFallback)
    job.write()
    try:
        whole = part.run(job)
        job.status = "complete" if whole else "stopped by the time"
    except BaseException as error:
        job.status = "failed"
        job.fail(told(error))
        raise
    finally:
        job.write()


def _mark(job: Job, status: str) -> None:
    """Say in the record of a part that could not do so itself how it ended."""
    found: dict[str, Any] = record.read(job.path) if job.path.is_file() else {"status": "running"}
    if found["status"] != "running":
        return
    job.rows, job.ratios = found.get("measurements", []), found.get("ratios", [])
    job.failures = found.get("failures", [])
    job.status = status
    job.write()


def _probe(device: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The head of every record, made by a process of its own: whoever forks may not have begun to use CUDA."""
    ours, theirs = CONTEXT.Pipe(duplex=False)

    def ask() -> None:
        try:
            theirs.send({**record.head(arguments), "device": describe(device)})
        except Exception as error:
            theirs.send(told(error))

    process = CONTEXT.Process(target=ask, daemon=True)
    process.start()
    found: Any = ours.recv() if ours.poll(ANSWER) else f"it did not answer in {ANSWER:.0f} s"
    process.kill()
    if isinstance(found, str):
        raise InputError(f"gpu: there is no usable CUDA device ({found}); --rehearse runs on the CPU")
    assert isinstance(found, dict)
    return found
