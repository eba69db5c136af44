"""Training and evaluation steps of a whole network, its normalization switched, against the network as it comes."""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.agreement import MismatchError, require_accuracy
from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Effort
from benchmarks.memory import peak_bytes
from benchmarks.options import add_device, check_device
from benchmarks.subjects import LAYOUTS, Replay
from switchnorm import switch
from switchnorm.errors import InputError, unknown
from switchnorm.models import create_model, list_models

#: What the network's normalization is switched to; None leaves torch's Batch Norm.
SPECS = {"BN": None, "SN": "sn", "SSN": "ssn", "GN": "gn", "BN + WS": "bn+ws", "GN + WS": "gn+ws"}
PHASES = ("training step", "evaluation step")
#: The training step as one CUDA graph, in which launching costs nothing.
CAPTURED = "captured training step"
DTYPES = ("float32", "bfloat16")
#: Which network is held against which, and what share of its time it may take.
COMPARED: dict[str, dict[tuple[str, str], float | None]] = {
    "training step": {
        ("SN", "BN"): 1.05,
        ("SSN", "BN"): 1.05,
        ("GN", "BN"): None,
        ("BN + WS", "BN"): 1.05,
        ("GN + WS", "GN"): 1.05,
    },
    # Nothing, up to what a clock can tell.
    "evaluation step": {("BN + WS", "BN"): 1.01, ("GN + WS", "GN"): 1.01},
}
#: Of a training step on a CPU.
ON_CPU = {("SN", "BN"): 1.0, ("SSN", "BN"): 1.0}
COMPARED[CAPTURED] = COMPARED["training step"]
BATCHES = {"cpu": 16, "cuda": 32}
ROUNDS = {"cpu": 6, "cuda": 30}
SIZE = 224
#: What a CPU trains beside ResNet-50 at that batch, with fewer networks: small batches, where overhead shows most.
SMALLER = (("resnet50", 4, SIZE), ("cifar_resnet20", 128, 32))
FEWER = ("BN", "SN", "SSN")
#: Pictures small enough for float64, yet with more than one element per channel where the network ends; of a smaller
#: batch as many as it has, but two.
CHECKED_SIZE, CHECKED_BATCH = 64, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    add_device(parser)
    parser.add_argument("--model", default="resnet50", help="a network for classification (default: resnet50)")
    parser.add_argument("--batch", type=int, help="pictures per step (default: 16 on a CPU, 32 on CUDA)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"side of the pictures (default: {SIZE})")
    parser.add_argument("--rounds", type=int, help="steps timed per network (default: 6 on a CPU, 30 on CUDA)")
    parser.add_argument(
        "--networks", nargs="+", choices=SPECS, metavar="NETWORK", help=f"only some of: {', '.join(SPECS)}"
    )
    parser.add_argument(
        "--layout", choices=LAYOUTS, help="of weights and pictures (default: both on CUDA, else contiguous)"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="bfloat16 is autocast (default: both on CUDA)")
    parser.add_argument("--graphs", action="store_true", help="on CUDA, also the training step as one graph")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options differ from what belongs into the record."""
    return any(
        (
            options.model != "resnet50",
            options.batch is not None,
            options.size != SIZE,
            options.networks,
            options.layout,
            options.dtype,
        )
    )


def cases(options: argparse.Namespace) -> list[Case]:
    """A training and an evaluation step in every layout and dtype."""
    device = check_device(options.device)
    batch = BATCHES[device] if options.batch is None else options.batch
    rounds = ROUNDS[device] if options.rounds is None else options.rounds
    if min(batch, rounds, options.size) < 1:
        raise InputError(f"--batch, --rounds and --size must be 1 or more, got {batch}, {rounds} and {options.size}")
    if options.graphs and device != "cuda":
        raise InputError("--graphs needs CUDA; leave it out on a CPU")
    if options.model not in list_models():
        raise unknown("model", options.model, list_models())
    layouts = (options.layout,) if options.layout else tuple(LAYOUTS)
    dtypes = (options.dtype,) if options.dtype else DTYPES if device == "cuda" else DTYPES[:1]
    jobs = [(options.model, batch, options.size, tuple(options.networks or SPECS))]
    if device == "cpu" and not partial(options):
        jobs += [(*smaller, FEWER) for smaller in SMALLER]
    settings = [
        Setting(model, batch, device, layout, dtype, networks, size)
        for (model, batch, size, networks), layout, dtype in itertools.product(jobs, layouts, dtypes)
    ]
    phases = (PHASES[0], CAPTURED, PHASES[1]) if options.graphs else PHASES
    torch.backends.cudnn.benchmark = True  # As people train; it is part of the warm-up.
    return [_case(setting, phase, rounds) for setting in settings for phase in phases if _pairs(setting, phase)]


@dataclass(frozen=True)
class Setting:
    """Where networks are compared: dtype other than float32 means autocast."""

    model: str
    batch: int
    device: str
    layout: str
    dtype: str
    networks: tuple[str, ...]
    size: int = SIZE


class Network:
    """A model whose normalization is switched, and a batch to train it on, again and again.

    Args:
        name: of the normalization, among `SPECS`.
        setting: the rest.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.setting = setting
        torch.manual_seed(0)
        model = create_model(setting.model, num_classes=1000)
        if SPECS[name] is not None:
            switch(model, SPECS[name])
        self.model = model.to(setting.device).to(memory_format=LAYOUTS[setting.layout])
        self.images, self.labels = self._batch(setting.batch, setting.size)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def train(self) -> Tensor:
        """One step of training; returns the loss."""
        self.optimizer.zero_grad()
        with torch.autocast(self.setting.device, torch.bfloat16, enabled=self.setting.dtype != "float32"):
            loss = F.cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    @torch.inference_mode()
    def evaluate(self) -> Tensor:
        """One batch in evaluation; returns the logits."""
        with torch.autocast(self.setting.device, torch.bfloat16, enabled=self.setting.dtype != "float32"):
            logits: Tensor = self.model(self.images)
        return logits

    def facts(self) -> dict[str, float]:
        """The most memory held in a training step; that of parameters and their momentum is not counted."""
        self.train()
        self.optimizer.zero_grad()
        return {"peak_bytes": peak_bytes(self.train, self.setting.device)}

    @cached_property
    def agreed(self) -> bool:
        """True once loss and gradients are as near the truth as the reference's, else raises `MismatchError`.

        The truth is the reference in float64, on small pictures. Rounding grows through some fifty layers, by how much
        the reference in float32 tells.
        """
        require_accuracy(self._results)
        return True

    def _results(self, dtype: torch.dtype) -> dict[str, list[Tensor]]:
        """Loss and gradients of a copy of the network on small pictures."""
        model = copy.deepcopy(self.model).train().to(dtype)
        images, labels = self._batch(max(2, min(CHECKED_BATCH, self.setting.batch)), CHECKED_SIZE)
        with torch.backends.cudnn.flags(allow_tf32=False):
            loss = F.cross_entropy(model(images.to(dtype)), labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
        return {"the loss": [loss.detach()], "the gradient": list(gradients)}

    def require_finite(self) -> None:
        """Raise `MismatchError` if a step as it is timed gives infinity or NaN."""
        result = self.train() if self.model.training else self.evaluate()
        if not result.isfinite().all():
            raise MismatchError("the network's result is not finite")

    def _batch(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count, 3, size, size, generator=generator)
        labels = torch.randint(1000, (count,), generator=generator)
        device = self.setting.device
        return images.to(device, memory_format=LAYOUTS[self.setting.layout]), labels.to(device)


def _case(setting: Setting, phase: str, rounds: int) -> Case:
    facts = {"job": setting.model, "phase": phase, "batch": setting.batch}
    return Case(
        facts={**facts, "layout": setting.layout, "dtype": setting.dtype},
        ways=functools.partial(_ways, setting, phase),
        pairs=_pairs(setting, phase),
        effort=Effort(fewest=rounds, most=rounds),
        device=setting.device,
        amount=setting.batch,
        unit="images",
    )


def _ways(setting: Setting, phase: str) -> dict[str, Way]:
    training = phase != PHASES[1]

    def way(network: Network) -> Way:
        def check() -> None:
            _ = network.agreed
            network.model.train(training)
            network.require_finite()

        run = network.train if training else network.evaluate
        return Way(Replay(run, 1) if phase == CAPTURED else run, check, network.facts if phase == PHASES[0] else dict)

    networks = _networks(setting)
    compared = {name for pair in COMPARED[phase] for name in pair}
    return {name: way(networks[name]) for name in setting.networks if name in compared}


@functools.lru_cache(maxsize=1)
def _networks(setting: Setting) -> dict[str, Network]:
    """The networks, kept for the phases of one setting."""
    return {name: Network(name, setting) for name in setting.networks}


def _pairs(setting: Setting, phase: str) -> tuple[Pair, ...]:
    compared = dict(COMPARED[phase])
    if phase == PHASES[0] and setting.device == "cpu":
        compared |= ON_CPU
    pairs = [Pair(of, over, at_most=target, headline=True) for (of, over), target in compared.items()]
    if phase == PHASES[0]:
        pairs.append(Pair("SN", "BN", "peak_bytes", at_most=1.0, headline=True))
    return tuple(pair for pair in pairs if pair.of in setting.networks and pair.over in setting.networks)
