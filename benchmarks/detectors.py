"""Training steps of this library's Faster R-CNN, against torchvision's own with the same layers, weights and draws."""

from __future__ import annotations

import argparse
import functools
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

from benchmarks.agreement import MismatchError
from benchmarks.case import CPU_TIME, TIME, Case, Pair, Way
from benchmarks.measure import Effort
from benchmarks.options import add_device, check_device
from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.ops import kernel

BODY, CLASSES = "resnet50", 80
#: Children of torchvision's detector by the names of ours, whose parts are the same.
NAMES = {
    "body.stem.": "backbone.body.",
    "body.": "backbone.body.",
    "neck.lateral.": "backbone.fpn.inner_blocks.",
    "neck.output.": "backbone.fpn.layer_blocks.",
    "box.fc1.": "roi_heads.box_head.fc6.",
    "box.fc2.": "roi_heads.box_head.fc7.",
    "box.": "roi_heads.box_predictor.",
}
#: torchvision's way, and the norms of ours.
REFERENCE, NORMS = "torchvision, BN", {"BN": "bn", "SN": "sn"}
#: What share of torchvision's time ours may take.
TARGET = 1.03
#: How far a loss may be off, as a share: a proposal that is suppressed by rounding changes what is drawn.
TOLERANCE = 0.01
BODIES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
OBJECTS = 8
BATCH = 2
SIZES = {"cpu": 320, "cuda": 800}
ROUNDS = {"cpu": 8, "cuda": 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    add_device(parser)
    parser.add_argument("--body", choices=BODIES, default=BODY, help=f"default: {BODY}")
    parser.add_argument("--size", type=int, help="side of the pictures (default: 320 on a CPU, 800 on CUDA)")
    parser.add_argument("--rounds", type=int, help="steps timed per detector (default: 8 on a CPU, 30 on CUDA)")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options differ from what belongs into the record."""
    return options.size is not None or options.body != BODY


def cases(options: argparse.Namespace) -> list[Case]:
    """One case, whose ways are the detectors."""
    device = check_device(options.device)
    size = SIZES[device] if options.size is None else options.size
    rounds = ROUNDS[device] if options.rounds is None else options.rounds
    if size < 32 or size % 32 or rounds < 1:
        raise InputError(f"--size must be a multiple of 32 and --rounds 1 or more, got {size} and {rounds}")
    torch.backends.cudnn.benchmark = True  # As people train; it is part of the warm-up.
    facts = {"job": _network(options.body), "phase": "training step", "size": size, "batch": BATCH}
    return [
        Case(
            facts={**facts, "layout": "contiguous", "dtype": "float32"},
            ways=functools.partial(_ways, options.body, size, device),
            pairs=tuple(
                Pair(*names, quantity=quantity, at_most=target, headline=True)
                for names, target in ((("BN", REFERENCE), TARGET), (("SN", "BN"), None))
                for quantity in (TIME, CPU_TIME)
            ),
            effort=Effort(fewest=rounds, most=rounds),
            device=device,
            amount=BATCH,
            unit="images",
        )
    ]


@dataclass
class Detector:
    """A detector and a batch to train it on, again and again.

    Attributes:
        model: in training mode.
        images: (3, H, W) each.
        targets: of each picture "boxes" (K, 4) and "labels" (K,).
    """

    model: nn.Module
    images: list[Tensor]
    targets: list[dict[str, Tensor]]

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)

    def step(self) -> None:
        """Forward and backward pass, and the optimizer's step."""
        self.optimizer.zero_grad()
        total = torch.stack(list(self._losses().values())).sum()
        total.backward()
        self.optimizer.step()

    def losses(self, path: str = "") -> dict[str, Tensor]:
        """The losses with the draws of a seed; computed along a path of `switchnorm.ops.kernel`, if one is named."""
        torch.manual_seed(0)
        with torch.no_grad(), kernel(path) if path else nullcontext():
            return self._losses()

    def _losses(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.model(self.images, [dict(target) for target in self.targets])
        return found


def _ways(body: str, size: int, device: str) -> dict[str, Way]:
    images, targets = _batch(size, device)

    def detector(model: nn.Module) -> Detector:
        return Detector(model.to(device).train(), images, targets)

    torch.manual_seed(0)
    network = functools.partial(create_model, _network(body), num_classes=CLASSES)
    ours = {name: detector(network(norm=norm)) for name, norm in NORMS.items()}
    theirs = detector(torchvisions(ours["BN"].model, body, size))
    expected = functools.cache(theirs.losses)  # Draws are of a seed, and a check comes before any step.
    return {
        REFERENCE: Way(theirs.step, lambda: require_same(expected(), expected())),
        "BN": Way(ours["BN"].step, lambda: require_same(ours["BN"].losses(), expected())),
        "SN": Way(ours["SN"].step, lambda: require_same(ours["SN"].losses(), ours["SN"].losses("reference"))),
    }


def _network(body: str) -> str:
    return f"{body}_fpn+faster_2fc"


def torchvisions(ours: nn.Module, body: str, size: int) -> nn.Module:
    """torchvision's Faster R-CNN with Batch Norm in body and pyramid and the weights of ours; it resizes no picture."""
    backbone = _resnet_fpn_extractor(get_model(body), trainable_layers=5, norm_layer=nn.BatchNorm2d)
    plain = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "_skip_resize": True}
    theirs: nn.Module = FasterRCNN(backbone, CLASSES + 1, min_size=size, max_size=size, **plain)
    theirs.load_state_dict({_theirs(name): value for name, value in ours.state_dict().items()})
    return theirs


def _theirs(name: str) -> str:
    start = next((start for start in NAMES if name.startswith(start)), "")
    return NAMES.get(start, "") + name.removeprefix(start)


def _batch(size: int, device: str) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Noise, and objects of all sizes and classes."""
    draw = torch.Generator().manual_seed(0)
    images = [torch.randn(3, size, size, generator=draw).to(device) for _ in range(BATCH)]
    targets = []
    for _ in images:
        sides = size * (0.05 + 0.6 * torch.rand(OBJECTS, 2, generator=draw))
        first = (size - sides) * torch.rand(OBJECTS, 2, generator=draw)
        labels = torch.randint(1, CLASSES + 1, (OBJECTS,), generator=draw)
        targets.append({"boxes": torch.cat([first, first + sides], 1).to(device), "labels": labels.to(device)})
    return images, targets


def require_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise `MismatchError` for losses that are not finite, or not the expected ones up to what rounding draws."""
    for name, truth in expected.items():
        if not abs(float(found[name] - truth)) <= TOLERANCE * abs(float(truth)):
            raise MismatchError(f"{name} is {float(found[name]):.4g} where {float(truth):.4g} is right")
