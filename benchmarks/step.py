"""Whole training steps of small networks as `switchnorm train` takes them, against the step as one CUDA graph."""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.agreement import TOLERANCES, require_agreement
from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Effort
from benchmarks.memory import peak_bytes
from benchmarks.options import add_device, check_compiler, check_device
from benchmarks.stepping import CapturedStep, StepByHand, Training, from_loader
from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.data import Cifar10, Digits, Samples
from switchnorm.data.datasets.memory import InMemory
from switchnorm.errors import InputError
from switchnorm.ops import kernel
from switchnorm.recipes import find_recipe

NORMS = ("bn", "sn", "ssn", "gn+ws")
#: How `switchnorm train` is told to take its steps, by the name of the way.
MODES = {
    "": (),
    "channels last": ("--train.channels_last=true",),
    "compiled": ("--train.compile=true",),
    "CUDA graph": ("--train.cuda_graph=true",),
}
WHOLE = "captured whole"
#: Recipes and their batches. The networks are CIFAR's ResNet-20 and the ResNet-8 of the digits.
JOBS = (("cifar10/resnet20", 16), ("cifar10/resnet20", 128), ("digits/resnet9", 32))
#: What share of the images per second of the step captured whole the recorded passes have to reach, and where.
SHARE, SHARE_OF = 0.85, "cifar10/resnet20"
#: Steps of one timed call: on CUDA the thread that trains is woken for several.
STEPS = {"cpu": 1, "cuda": 20}
#: Seconds that one timing covers at least.
SAMPLE = {"cpu": 0.0, "cuda": 0.05}
#: Steps whose losses must be the reference's, and how far they may be off. Convolutions on CUDA round to TF32, which
#: has the mantissa of float16.
CHECKED = 4
TOLERANCE = {"cpu": TOLERANCES[torch.float32], "cuda": TOLERANCES[torch.float16]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    add_device(parser)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to time each case, at 5 rounds or more")
    parser.add_argument("--norms", nargs="+", choices=NORMS, metavar="NORM", help=f"only some of: {', '.join(NORMS)}")
    parser.add_argument(
        "--recipes", nargs="+", choices=sorted({recipe for recipe, _ in JOBS}), help="only some (default: all)"
    )
    parser.add_argument("--compile", action="store_true", help="also train.compile, a minute for each")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options leave out what belongs into the record."""
    return bool(options.norms or options.recipes)


def cases(options: argparse.Namespace) -> list[Case]:
    """Every recipe and batch, each with all its norms."""
    device = check_device(options.device)
    if not options.seconds >= 0:
        raise InputError(f"--seconds must be 0 or more, got {options.seconds}")
    if options.compile:
        check_compiler(device)
    effort = Effort(options.seconds, fewest=5, most=30, sample=SAMPLE[device], warmups=2)
    modes = tuple(mode for mode in MODES if _possible(mode, device, options.compile))
    settings = [
        Setting(recipe, batch, device, tuple(options.norms or NORMS), modes)
        for recipe, batch in JOBS
        if recipe in (options.recipes or (recipe,))
    ]
    return [
        Case(
            facts=_facts(setting),
            ways=functools.partial(_ways, setting),
            pairs=_pairs(setting),
            effort=effort,
            device=device,
            amount=setting.batch * STEPS[device],
            unit="images",
        )
        for setting in settings
    ]


def _possible(mode: str, device: str, compiled: bool) -> bool:
    return {"compiled": compiled, "CUDA graph": device == "cuda"}.get(mode, True)


@dataclass(frozen=True)
class Setting:
    """A recipe and its batch, and what is compared."""

    recipe: str
    batch: int
    device: str
    norms: tuple[str, ...]
    modes: tuple[str, ...]

    def config(self, norm: str, mode: str) -> Config:
        """Of the run. The rate stays for a while what it is at first, as in a captured step."""
        flags = (f"--norm={norm}", f"--batch_size={self.batch}", f"--device={self.device}", *MODES.get(mode, ()))
        return read_config(find_recipe(self.recipe), (*flags, "--schedule.name=step", "--schedule.warmup_epochs=0"))


@dataclass(frozen=True)
class _RandomCifar(Cifar10):
    """CIFAR-10's number and shape of pictures, and its augmentation, without its pictures."""

    device: str = "cpu"

    def load(self) -> tuple[Samples, Samples]:
        return _noise(50_000, 3, 32, 255, self.device)


@dataclass(frozen=True)
class _RandomDigits(Digits):
    """As many random pictures as there are digits."""

    device: str = "cpu"

    def load(self) -> tuple[Samples, Samples]:
        return _noise(1438, 1, 8, 16, self.device)


_PICTURES: dict[str, Callable[[str], InMemory]] = {
    "cifar10": lambda device: _RandomCifar(device=device),
    "digits": lambda device: _RandomDigits(device=device),
}


def _noise(count: int, channels: int, size: int, white: int, device: str) -> tuple[Samples, Samples]:
    """Random pictures, normalized as uniform noise has to be; a single one stands for the test set."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, white + 1, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    statistics = (white / 2,) * channels, (white / 12**0.5,) * channels
    images, labels = images.to(device), labels.to(device)
    return Samples(images, labels, *statistics), Samples(images[:1], labels[:1], *statistics)


@dataclass
class _Watch:
    """The most memory that tensors took on CUDA since it began, above what they took then."""

    began: int = field(default_factory=torch.cuda.memory_allocated)

    def __post_init__(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()

    def bytes(self) -> int:
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - self.began


class Run:
    """A way of training, which starts when it is checked.

    Args:
        setting: where.
        norm: of the network.
        mode: of `MODES`.
        dataset: its pictures.
        expected: the losses of the first steps.
        before: the run that starts before this one.
    """

    def __init__(
        self, setting: Setting, norm: str, mode: str, dataset: InMemory, expected: Tensor, before: Run | None
    ) -> None:
        self.setting = setting
        self.config = setting.config(norm, mode)
        self.dataset = dataset
        self.expected = expected
        self.before = before
        self.training: Training | None = None
        self.peak = 0

    def check(self) -> None:
        """Start, and compare the first losses; raises `MismatchError`."""
        watch = _Watch() if self.setting.device == "cuda" else None
        earlier = None if self.before is None else self.before.training
        self.training = Training(self.config, self.dataset, earlier)
        losses = self.training.advance(CHECKED)
        if watch is not None:
            self.peak = watch.bytes()
        _require_losses(losses, self.expected, self.setting.device)

    def take(self) -> None:
        """The steps of one timed call."""
        assert self.training is not None
        self.training.advance(STEPS[self.setting.device])

    def facts(self) -> dict[str, float]:
        """The most memory: on CUDA of the first steps, with all that the run keeps; else of a step, beside that."""
        if self.setting.device == "cuda":
            return {"peak_bytes": self.peak}
        assert self.training is not None
        task = self.training.task
        ((images, labels),) = from_loader(self.config, self.dataset, 1, "cpu")
        images = task.layout(images)

        def passes() -> None:
            F.cross_entropy(task.model(images), labels).backward()
            task.model.zero_grad()

        return {"peak_bytes": peak_bytes(passes, "cpu")}


class Whole:
    """The yardstick, which is captured when it is checked; arguments as `Run`."""

    def __init__(self, setting: Setting, norm: str, dataset: InMemory, expected: Tensor) -> None:
        self.setting = setting
        self.config = setting.config(norm, "")
        self.dataset = dataset
        self.expected = expected
        self.step: CapturedStep | None = None
        self.peak = 0

    def check(self) -> None:
        """Capture, and compare the first losses; raises `MismatchError`."""
        watch = _Watch()
        batches = from_loader(self.config, self.dataset, CHECKED, "cuda")
        self.step = CapturedStep(self.config, self.dataset, batches[0])
        losses = [self.step.advance(place, batch) for place, batch in enumerate(batches)]
        self.peak = watch.bytes()
        _require_losses(losses, self.expected, "cuda")

    def take(self) -> None:
        """The steps of one timed call."""
        assert self.step is not None
        for _ in range(STEPS["cuda"]):
            self.step.replay()

    def facts(self) -> dict[str, float]:
        """As `Run.facts`."""
        return {"peak_bytes": self.peak}


def reference_losses(config: Config, dataset: InMemory, device: str) -> Tensor:
    """The losses of the first steps by hand, normalized by the reference, (CHECKED,) float64."""
    step = StepByHand(config, dataset, device)
    with kernel("reference"):
        losses = [step.advance(*item) for item in enumerate(from_loader(config, dataset, CHECKED, device))]
    return torch.stack(losses).double()


def _require_losses(losses: Sequence[Tensor], expected: Tensor, device: str) -> None:
    found = {f"the loss of step {place}": loss for place, loss in enumerate(losses, 1)}
    require_agreement(found, dict(zip(found, expected, strict=True)), TOLERANCE[device])


def _ways(setting: Setting) -> dict[str, Way]:
    dataset = _PICTURES[setting.config(setting.norms[0], "").data["name"]](setting.device)
    ways: dict[str, Way] = {}
    before: Run | None = None
    for norm in setting.norms:
        expected = reference_losses(setting.config(norm, ""), dataset, setting.device)
        if setting.device == "cuda":
            whole = Whole(setting, norm, dataset, expected)
            ways[_name(norm, WHOLE)] = Way(whole.take, whole.check, whole.facts)
        for mode in setting.modes:
            run = before = Run(setting, norm, mode, dataset, expected, before)
            ways[_name(norm, mode)] = Way(run.take, run.check, run.facts)
    return ways


def _name(norm: str, mode: str) -> str:
    return ", ".join(filter(None, (norm, mode)))


def _pairs(setting: Setting) -> tuple[Pair, ...]:
    """On CUDA each way over its norm's yardstick; on a CPU, which has none, over plain Batch Norm."""
    ways = itertools.product(setting.norms, setting.modes)
    if setting.device == "cpu":
        plain = _name("bn", "")
        return tuple(
            Pair(name, plain, headline=not mode) for norm, mode in ways if (name := _name(norm, mode)) != plain
        )
    return tuple(
        Pair(
            _name(norm, mode),
            _name(norm, WHOLE),
            at_most=1 / SHARE if mode == "CUDA graph" and setting.recipe == SHARE_OF else None,
            headline=mode == "CUDA graph",
        )
        for norm, mode in ways
    )


def _facts(setting: Setting) -> dict[str, object]:
    steps = STEPS[setting.device]
    return {
        "job": setting.config(setting.norms[0], "").model.name,
        "phase": "training step" if steps == 1 else f"{steps} training steps",
        "batch": setting.batch,
        "layout": "contiguous",
        "dtype": "float32",
    }
