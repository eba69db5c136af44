"""Inference of folded and exported networks, against Batch Norm's: ONNX Runtime, OpenVINO and eager mode, one thread.

Needs the extras export and openvino. Files are those that `switchnorm.export` writes with raw=True and nothing open.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model

import switchnorm
from benchmarks.agreement import MismatchError
from benchmarks.case import CPU_TIME, Case, Pair, Way
from benchmarks.measure import Effort
from switchnorm.errors import InputError
from switchnorm.surgery.importance import sparse_layers

NETWORKS = ("resnet18", "resnet50")
SIZE, ROUNDS = 224, 30
#: What everything is compared with: the same network with Batch Norm, folded too.
BASE = "bn"
#: How far an output may be off, as a share of the largest of the network as it was before.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Setting:
    """A network's normalization after training.

    Attributes:
        norm: its name.
        choices: of SSN: the statistic of each layer, in turn, for mean and variance alike; () leaves the importance.
        limits: the most that CPU time may be of Batch Norm's, by network and runtime.
        same_nodes: whether the file has as many nodes as Batch Norm's.
    """

    norm: str
    choices: tuple[str, ...] = ()
    limits: Mapping[tuple[str, str], float] = field(default_factory=dict)
    same_nodes: bool = False


def _limits(network: str, **by_runtime: float) -> dict[tuple[str, str], float]:
    return {(network, runtime): limit for runtime, limit in by_runtime.items()}


_NEARLY = {**_limits("resnet18", onnxruntime=1.03, eager=1.03), **_limits("resnet50", onnxruntime=1.03, eager=1.03)}
SETTINGS = {
    BASE: Setting("bn"),
    "ssn, all batch": Setting("ssn", ("batch",), _NEARLY, same_nodes=True),
    "ssn, half batch": Setting(
        "ssn", ("batch", "instance", "batch", "layer"), _limits("resnet50", onnxruntime=1.33, openvino=1.13)
    ),
    "ssn, a third each": Setting(
        "ssn",
        ("batch", "instance", "layer"),
        {**_limits("resnet50", onnxruntime=1.40, openvino=1.18), **_limits("resnet18", eager=1.15)},
    ),
    "ssn, all instance": Setting("ssn", ("instance",), _limits("resnet50", onnxruntime=1.40, openvino=1.18)),
    "sn": Setting("sn", limits=_limits("resnet50", onnxruntime=1.57, openvino=1.26)),
    "gn": Setting("gn", limits=_limits("resnet18", onnxruntime=1.20)),
    "gn+ws": Setting("gn+ws", limits=_limits("resnet18", onnxruntime=1.20)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: all")
    parser.add_argument("--runtimes", nargs="+", choices=(*RUNTIMES,), default=(*RUNTIMES,), help="default: all")
    parser.add_argument("--settings", nargs="+", choices=(*SETTINGS,), default=(*SETTINGS,), help="default: all")
    parser.add_argument("--size", type=int, default=SIZE, help=f"side of the picture (default: {SIZE})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"calls timed of each (default: {ROUNDS})")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options differ from what belongs into the record."""
    chosen = ((options.networks, NETWORKS), (options.runtimes, RUNTIMES), (options.settings, SETTINGS))
    return options.size != SIZE or any({*given} != {*every} for given, every in chosen)


def cases(options: argparse.Namespace) -> list[Case]:
    """A case for each network and runtime; its ways are the normalizers."""
    if options.size < 32 or options.rounds < 1:
        raise InputError(f"--size must be 32 and --rounds 1 or more, got {options.size} and {options.rounds}")
    torch.set_num_threads(1)
    names = [BASE, *(name for name in options.settings if name != BASE)]
    facts = {"job": "inference", "phase": "forward", "size": options.size, "batch": 1}
    return [
        Case(
            facts={**facts, "network": network, "runtime": runtime, "layout": "contiguous", "dtype": "float32"},
            ways=functools.partial(_ways, network, runtime, names, options.size),
            pairs=tuple(_pairs(network, runtime, names)),
            effort=Effort(fewest=options.rounds, most=options.rounds, warmups=3),
            amount=1,
            unit="images",
        )
        for network in options.networks
        for runtime in options.runtimes
    ]


def _pairs(network: str, runtime: str, names: Sequence[str]) -> list[Pair]:
    pairs = []
    for name in names[1:]:
        setting = SETTINGS[name]
        limit = setting.limits.get((network, runtime))
        pairs.append(Pair(name, BASE, CPU_TIME, at_most=limit, headline=limit is not None))
        if setting.same_nodes and runtime != "eager":
            pairs.append(Pair(name, BASE, "nodes", at_most=1.0, headline=True))
    return pairs


def _ways(network: str, runtime: str, names: Sequence[str], size: int) -> dict[str, Way]:
    return {name: RUNTIMES[runtime](network, name, size) for name in names}


def _onnxruntime(network: str, name: str, size: int) -> Way:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = _file(network, name, size)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: _image(size).numpy()}
    return _way(lambda: session.run(None, given)[0], network, name, size, path)


def _openvino(network: str, name: str, size: int) -> Way:
    import openvino

    path = _file(network, name, size)
    # By itself it computes in bfloat16 where the processor can.
    one = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(path), "CPU", one).create_infer_request()
    image = _image(size).numpy()
    return _way(lambda: request.infer({0: image})[0], network, name, size, path)


def _eager(network: str, name: str, size: int) -> Way:
    folded, image = switchnorm.fold(_network(network, name), size), _image(size)

    @torch.no_grad()
    def run() -> np.ndarray:
        y: Tensor = folded(image)
        return y.numpy()

    return _way(run, network, name, size)


#: What makes the way of a network and setting.
RUNTIMES: dict[str, Callable[[str, str, int], Way]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "eager": _eager,
}


def _way(run: Callable[[], np.ndarray], network: str, name: str, size: int, path: Path | None = None) -> Way:
    def check() -> None:
        expected = _expected(network, name, size)
        off = float(np.abs(run() - expected).max() / np.abs(expected).max())
        if not off <= TOLERANCE:
            raise MismatchError(f"{off:.1e} of the largest output off, at most {TOLERANCE:.0e} is right")

    return Way(run, check, dict if path is None else lambda: {"nodes": float(nodes(path))})


def nodes(path: Path) -> int:
    """How many nodes the graph of an ONNX file has."""
    import onnx

    return len(onnx.load(str(path), load_external_data=False).graph.node)


@functools.cache
def _network(network: str, name: str) -> nn.Module:
    """A network as training might leave it: random weights, running statistics of noise, and SSN's choices made."""
    setting = SETTINGS[name]
    torch.manual_seed(0)
    model: Any = get_model(network)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    model = switchnorm.switch(model, setting.norm, start="equal")
    for k, layer in enumerate(sparse_layers(model) if setting.choices else ()):
        chosen = [float(statistic == setting.choices[k % len(setting.choices)]) for statistic in layer.statistics]
        layer.set_radius(1)
        layer.set_importance(chosen, chosen)
    switchnorm.harden(model)
    switchnorm.calibrate(model, [torch.randn(4, 3, 64, 64)])
    made: nn.Module = model.eval()
    return made


@functools.cache
def _image(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


@functools.cache
@torch.no_grad()
def _expected(network: str, name: str, size: int) -> np.ndarray:
    y: Tensor = _network(network, name)(_image(size))
    return y.numpy()


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def _file(network: str, name: str, size: int) -> Path:
    """The network as an ONNX file."""
    path = Path(_folder().name) / f"{network}-{[*SETTINGS].index(name)}.onnx"
    switchnorm.export(_network(network, name), path, size=size, dynamic=(), raw=True, warn=False)
    return path
