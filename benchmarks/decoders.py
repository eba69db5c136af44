"""Forward and backward of every decoder for segmentation behind one encoder, against the plainest decoder."""

from __future__ import annotations

import argparse
import copy
import functools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.agreement import MismatchError, require_accuracy
from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Effort
from benchmarks.memory import peak_bytes
from benchmarks.options import add_device, check_device
from switchnorm.errors import InputError
from switchnorm.models import create_model

#: What the others are held against.
PLAINEST = "c1_bilinear"
DECODERS = (PLAINEST, "c1_bilinear_deepsup", "ppm_bilinear", "ppm_bilinear_deepsup", "upernet", "upernet_lite")
#: By device. A GPU gets what is published for ADE20K, a CPU what it can do in minutes.
ENCODERS = {"cpu": "resnet18_dilated8", "cuda": "resnet50_dilated8"}
SIZES = {"cpu": 256, "cuda": 512}
BATCHES = {"cpu": 2, "cuda": 4}
ROUNDS = {"cpu": 4, "cuda": 30}
#: The classes of ADE20K, and the published weight of the deep supervision.
CLASSES, SUPERVISION = 150, 0.4
#: The side of pictures small enough for float64.
CHECKED_SIZE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    add_device(parser)
    parser.add_argument("--encoder", help="default: resnet18_dilated8 on a CPU, resnet50_dilated8 on CUDA")
    parser.add_argument("--norm", default="sn", help="of encoder and decoder (default: sn)")
    parser.add_argument("--size", type=int, help="side of the pictures (default: 256 on a CPU, 512 on CUDA)")
    parser.add_argument("--batch", type=int, help="pictures (default: 2 on a CPU, 4 on CUDA)")
    parser.add_argument("--rounds", type=int, help="steps timed per decoder (default: 4 on a CPU, 30 on CUDA)")
    parser.add_argument(
        "--decoders", nargs="+", choices=DECODERS, metavar="DECODER", help=f"only some of: {', '.join(DECODERS)}"
    )


def partial(options: argparse.Namespace) -> bool:
    """Whether the options differ from what belongs into the record."""
    return any((options.encoder, options.norm != "sn", options.size, options.batch, options.decoders))


def cases(options: argparse.Namespace) -> list[Case]:
    """One case, whose ways are the decoders."""
    device = check_device(options.device)
    numbers = {"size": SIZES, "batch": BATCHES, "rounds": ROUNDS}
    given = {name: getattr(options, name) for name in numbers}
    size, batch, rounds = (usual[device] if given[name] is None else given[name] for name, usual in numbers.items())
    if min(size, batch, rounds) < 1:
        raise InputError(f"--size, --batch and --rounds must be 1 or more, got {size}, {batch} and {rounds}")
    setting = Setting(options.encoder or ENCODERS[device], options.norm, size, batch, device)
    decoders = tuple(options.decoders or DECODERS)
    with torch.device("meta"):
        setting.network(decoders[0])  # Whatever is wrong with its name shows before anything is measured.
    torch.backends.cudnn.benchmark = True  # As people train; it is part of the warm-up.
    return [_case(setting, decoders, rounds)]


@dataclass(frozen=True)
class Setting:
    """Where decoders are compared."""

    encoder: str
    norm: str
    size: int
    batch: int
    device: str

    def network(self, decoder: str) -> nn.Module:
        """The pairing of the encoder with a decoder."""
        return create_model(f"{self.encoder}+{decoder}", norm=self.norm, num_classes=CLASSES)


class Pairing:
    """An encoder with a decoder, and pictures to train it on, again and again.

    Args:
        decoder: its name.
        setting: the rest.
    """

    def __init__(self, decoder: str, setting: Setting) -> None:
        self.setting = setting
        torch.manual_seed(0)
        self.model = setting.network(decoder).to(setting.device)
        self.images = self._pictures(setting.size)

    def step(self) -> Tensor:
        """Forward and backward; returns the loss."""
        self.model.zero_grad()
        loss = _loss(self.model(self.images))
        loss.backward()
        return loss

    def facts(self) -> dict[str, float]:
        """The most memory held in a step, gradients of the parameters included; to be called after `check`."""
        self.model.zero_grad()
        return {"peak_bytes": peak_bytes(self.step, self.setting.device)}

    def check(self) -> None:
        """Raise `MismatchError` where results are not right or not finite."""
        _ = self.agreed
        if not self.step().isfinite():
            raise MismatchError("the loss is not finite")

    @cached_property
    def agreed(self) -> bool:
        """True once loss and gradients are as near the truth as the reference's, else raises `MismatchError`.

        The truth is the reference in float64, on small pictures and without dropout.
        """
        require_accuracy(self._results)
        return True

    def _results(self, dtype: torch.dtype) -> dict[str, list[Tensor]]:
        """Loss and gradients of a copy of the network on small pictures."""
        model = copy.deepcopy(self.model).train().to(dtype)
        for module in model.modules():
            if isinstance(module, nn.Dropout2d):
                module.eval()
        with torch.backends.cudnn.flags(allow_tf32=False):
            loss = _loss(model(self._pictures(CHECKED_SIZE).to(dtype)))
            gradients = torch.autograd.grad(loss, list(model.parameters()))
        return {"the loss": [loss.detach()], "the gradient": list(gradients)}

    def _pictures(self, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.setting.batch, 3, size, size, generator=generator).to(self.setting.device)


def _loss(logits: dict[str, Tensor]) -> Tensor:
    """The cross entropy of each branch with labels at its own size."""
    losses = {name: F.cross_entropy(each, _labels(each)) for name, each in logits.items()}
    return losses["out"] + SUPERVISION * losses["aux"] if "aux" in losses else losses["out"]


def _labels(logits: Tensor) -> Tensor:
    """Any class for each pixel of (N, K, h, w)."""
    count, classes, *size = logits.shape
    generator = torch.Generator().manual_seed(1)
    return torch.randint(classes, (count, *size), generator=generator).to(logits.device)


def _case(setting: Setting, decoders: tuple[str, ...], rounds: int) -> Case:
    facts = {"job": setting.encoder, "phase": "forward + backward", "norm": setting.norm, "size": setting.size}
    return Case(
        facts={**facts, "batch": setting.batch, "layout": "contiguous", "dtype": "float32"},
        ways=functools.partial(_ways, setting, decoders),
        pairs=tuple(
            Pair(decoder, PLAINEST, quantity, headline=True)
            for quantity in ("time", "peak_bytes")
            for decoder in decoders
            if decoder != PLAINEST and PLAINEST in decoders
        ),
        effort=Effort(fewest=rounds, most=rounds),
        device=setting.device,
        amount=setting.batch,
        unit="images",
    )


def _ways(setting: Setting, decoders: tuple[str, ...]) -> dict[str, Way]:
    pairings = {decoder: Pairing(decoder, setting) for decoder in decoders}
    return {decoder: Way(pairing.step, pairing.check, pairing.facts) for decoder, pairing in pairings.items()}
