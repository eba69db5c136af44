"""The suites of this package, as much of them as the time allows, the most telling cases first."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable, Sequence
from types import ModuleType

import torch

from benchmarks import layers, networks, step, weights
from benchmarks.case import Case
from benchmarks.gpu.compiling import GROUPS, MIXTURES, SINGLES
from benchmarks.gpu.job import Job
from benchmarks.gpu.kernels import kernels_of
from benchmarks.gpu.pool import told
from benchmarks.measure import Effort
from benchmarks.runner import Outcome, run_case, summed_up
from benchmarks.text import of_outcome

#: One of each of ResNet-50's stages and its stem, and detectors' maps at two pictures.
SHAPES = ("32x256x56x56", "2x256x200x336", "32x64x112x112", "32x512x28x28", "32x1024x14x14", "32x2048x7x7")
DETECTION = ("2x1024x50x84", "2x2048x25x42")
#: Where launches, and where kernels take the time.
EAGER = ("32x2048x7x7", "32x256x56x56")
BOTH, FORWARD = layers.PHASES[1], layers.PHASES[0]
NETWORKS = (
    ("bfloat16", "channels last", ("SN",)),
    ("bfloat16", "contiguous", ("SN",)),
    ("bfloat16", "channels last", ("SSN",)),
    ("bfloat16", "channels last", ("GN", "GN + WS")),
    ("float32", "channels last", ("SN",)),
    ("bfloat16", "contiguous", ("SSN",)),
    ("bfloat16", "contiguous", ("GN", "GN + WS")),
)
STEP = "cifar10/resnet20"
#: Enough rounds for a median, of calls that nothing but themselves disturbs.
EFFORT = Effort(seconds=0.2, fewest=5, most=30, sample=0.002, warmups=2)


def run_layers(job: Job) -> bool:
    """Layers as captured graphs, which is their kernels' time, and eager, which is the host's; and all weights."""
    if job.setting.rehearsing:
        arguments = ("--shapes", "2x32x3x4", "--layers", "SN", "--seconds", "0")
        chosen = [case for case in _cases(layers, job, *arguments) if case.facts["phase"] == BOTH]
    else:
        chosen = [
            *_layers(job, SHAPES, "bfloat16", MIXTURES, graphs=True),
            *_layers(job, SHAPES[:2], "bfloat16", SINGLES, graphs=True),
            *_layers(job, EAGER, "bfloat16", MIXTURES, graphs=False),
            *(dataclasses.replace(case, effort=EFFORT) for case in _cases(weights, job, "--quick")),
            *_layers(job, SHAPES, "float16", MIXTURES, graphs=True),
            *_layers(job, SHAPES, "float32", MIXTURES, graphs=True),
            *_layers(job, DETECTION, "bfloat16", (*MIXTURES, *SINGLES), graphs=True),
            *_layers(job, SHAPES[2:], "bfloat16", SINGLES, graphs=True),
            *_layers(job, EAGER, "float32", MIXTURES, graphs=False),
            *_layers(job, SHAPES, "float16", SINGLES, graphs=True),
            *_layers(job, SHAPES, "float32", SINGLES, graphs=True),
        ]
    return _run(job, chosen)


def run_networks(job: Job) -> bool:
    """ResNet-50's training step, eager and captured, with its memory."""
    if job.setting.rehearsing:
        arguments = ("--model", "resnet18", "--batch", "2", "--size", "32", "--rounds", "1", "--networks", "BN", "SN")
        chosen = _cases(networks, job, *arguments)
        profiled = networks.Setting("resnet18", 2, "cpu", "contiguous", "float32", ("SN",), 32)
    else:
        # A network against Batch Norm at a time, so that whatever there is time for is there.
        chosen = [
            case
            for dtype, layout, names in NETWORKS
            for case in _cases(
                networks,
                job,
                *("--graphs", "--rounds", "10", "--dtype", dtype, "--layout", layout, "--networks", "BN", *names),
            )
        ]
        profiled = networks.Setting("resnet50", 32, "cuda", "channels last", "bfloat16", ("BN", "SN", "SSN"))
    _profile_networks(job, profiled)
    return _run(job, [case for case in chosen if case.facts["phase"] != "evaluation step"])


def run_step(job: Job) -> bool:
    """Training steps of CIFAR's ResNet-20 as the library takes them, over the step captured whole."""
    if job.setting.rehearsing:
        chosen = _cases(step, job, "--recipes", "digits/resnet9", "--norms", "bn", "sn", "--seconds", "0")
    else:
        of_norms = [
            _cases(step, job, "--recipes", STEP, "--norms", norm, "--seconds", "0.5")
            for norm in ("sn", "bn", "ssn", "gn+ws")
        ]
        # The larger batch of every norm first.
        chosen = [case for cases in zip(*of_norms, strict=True) for case in cases]
        chosen.sort(key=lambda case: -int(case.facts["batch"]))
    return _run(job, chosen)


def _layers(job: Job, shapes: Sequence[str], dtype: str, names: Sequence[str], *, graphs: bool) -> list[Case]:
    """Forward and backward of every shape in both layouts; the forward pass alone where two samples are few."""
    flags = ("--graphs",) if graphs else ()
    cases = _cases(layers, job, "--shapes", *shapes, "--dtypes", dtype, "--layers", *names, *flags)
    return [
        dataclasses.replace(case, facts={**case.facts, "launched": "captured" if graphs else "eager"}, effort=EFFORT)
        for case in cases
        if case.facts["phase"] == BOTH or (graphs and GROUPS[0] in names and case.facts["shape"].startswith("2x"))
    ]


def _cases(suite: ModuleType, job: Job, *arguments: str) -> list[Case]:
    """The suite's cases with these flags."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    suite.add_arguments(parser)
    found: list[Case] = suite.cases(parser.parse_args(["--device", job.setting.device, *arguments]))
    return found


def _run(job: Job, cases: Iterable[Case]) -> bool:
    """One case after another, as long as there is time for one like the last; returns whether that was all."""
    outcomes: list[Outcome] = []
    last = 0.0
    for case in cases:
        began = time.monotonic()
        if job.left() < 1.1 * last:
            return False
        try:
            outcome = run_case(case)
        except Exception as error:
            job.fail(f"{case}: {told(error)}")
            if "CUDA error" in str(error):
                raise
            continue
        finally:
            last = time.monotonic() - began
            if job.setting.device == "cuda":
                torch.cuda.empty_cache()
        outcomes.append(outcome)
        print(f"{case} ({last:.1f} s)\n{of_outcome(outcome)}", flush=True)
        for way, why in outcome.failures.items():
            job.fail(f"{case}: {way}: {why}")
        job.ratios = summed_up(outcomes)
        job.add(*outcome.rows)
    return True


def _profile_networks(job: Job, setting: networks.Setting) -> None:
    """What a training step launches, and how long the kernels take."""
    for name in setting.networks:
        try:
            network = networks.Network(name, setting)
            network.train()
            found = kernels_of(network.train, job.setting.device, 2)
        except Exception as error:
            job.fail(f"kernels of {setting.model}, {name}: {told(error)}")
            if "CUDA error" in str(error):
                raise
            continue
        largest = dict(list(found.us.items())[:15])
        row = {"job": f"{setting.model}'s kernels", "of": name, "us": found.total, "launches": found.launches}
        job.add({**row, "kernels": largest})
