"""What a switch keeps of a trained network by each start, and what fine-tuning makes of it.

Needs timm, EfficientNet-Lite0's ImageNet weights as timm names them, pictures of ImageNet in a folder per class (sorted
as the classes are), and CamVid as `switchnorm train camvid/small` takes it. Every row is written as soon as it is
there, and rows that the record has are not measured again.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import switchnorm
from benchmarks.record import head
from switchnorm.surgery.importance import mixing_layers
from switchnorm.surgery.start import STARTS

RECORD = Path("docs/results/start.json")
Pictures = tuple[Tensor, Tensor]
#: The normalizers and starts of which is told what a network is right after the switch. "logits" are (0, 0, 5) or the
#: same importance, and nothing else; "like" is "auto" and `calibrate(model, batches, like=before)`.
KEPT = {
    "bn": ("auto",),
    "sn": ("equal", "logits", "auto"),
    "ssn": ("equal", "logits", "auto"),
    "gn": ("equal", "auto", "like"),
    "ln": ("equal", "auto", "like"),
    "in": ("auto",),
    "gn+ws": ("auto", "like"),
}
#: Those of which is told what fine-tuning makes of them.
TUNED = {
    "bn": ("auto",),
    "sn": ("equal", "logits", "auto"),
    "ssn": ("equal", "auto"),
    "ln": ("equal", "auto"),
    "gn": ("equal", "auto"),
}
#: Of fine-tuning: pictures of this height and width, so many a step, in ghost batches.
SIZE, BATCH, GHOST, RATE = (120, 160), 4, 2, 0.02


class Data(NamedTuple):
    """Pictures (N, 3, H, W) with labels: (N,) of ImageNet, (N, H, W) of CamVid."""

    test: Pictures
    calibration: Tensor
    tuning: Pictures
    validation: Pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    parser.add_argument("--weights", type=Path, required=True, help="tf_efficientnet_lite0.safetensors")
    parser.add_argument("--imagenet", type=Path, required=True, help="a folder per class")
    parser.add_argument("--camvid", type=Path, required=True, help="train/, trainannot/, val/, valannot/")
    parser.add_argument("--pictures", type=int, default=100, help="of ImageNet, evaluated")
    parser.add_argument("--steps", type=int, default=100, help="of fine-tuning")
    parser.add_argument("--part", choices=("kept", "tuned"), help="only this part")
    parser.add_argument("--json", type=Path, default=RECORD, help=f"the record (default: {RECORD})")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measure the rows that the record lacks, and print all."""
    torch.set_num_threads(1)
    rows = json.loads(options.json.read_text())["rows"] if options.json.is_file() else []
    data = Data(
        imagenet(options.imagenet, 0, options.pictures),
        imagenet(options.imagenet, 2, 32)[0],
        _camvid(options.camvid, "train", 1),
        _camvid(options.camvid, "val", 2),
    )
    model = trained(options.weights)
    for key, measure in _rows(model, data, options.steps):
        if key["part"] != (options.part or key["part"]) or any(
            all(row.get(name) == value for name, value in key.items()) for row in rows
        ):
            continue
        begun = time.perf_counter()
        rows.append({**key, **measure(), "seconds": round(time.perf_counter() - begun)})
        print(json.dumps(rows[-1]), flush=True)
        record = {**head(arguments), "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def _rows(model: nn.Module, data: Data, steps: int) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """What identifies a row, and what measures it."""
    yield {"part": "kept", "norm": "none"}, lambda: {"top1": _top1(model, data.test)}
    for part, norms, measure in (
        ("kept", KEPT, lambda switched: {"top1": _top1(switched, data.test)}),
        ("tuned", TUNED, lambda switched: _tuned(switched, data, steps)),
    ):
        for norm, starts in norms.items():
            for start in starts:
                switched = partial(_switched, model, norm, start, data.calibration)
                yield {"part": part, "norm": norm, "start": start}, partial(_measured, switched, measure)


def _measured(switched: Callable[[], nn.Module], measure: Callable[[nn.Module], dict[str, Any]]) -> dict[str, Any]:
    return measure(switched())


def trained(weights: Path) -> nn.Module:
    """EfficientNet-Lite0 in evaluation mode."""
    import timm
    from safetensors.torch import load_file

    model: nn.Module = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(load_file(weights))
    return model.eval()


def _switched(model: nn.Module, norm: str, start: str, calibration: Tensor) -> nn.Module:
    """A copy of a network, switched."""
    made = switchnorm.switch(copy.deepcopy(model), norm, start=start if start in STARTS else "equal")
    if start == "logits":
        shares = torch.tensor((0.0, 0.0, 5.0)).softmax(0).tolist()
        for _, layer in mixing_layers(made):
            layer.set_importance(shares, shares)
    if start == "like":
        made = switchnorm.switch(copy.deepcopy(model), norm)
        switchnorm.calibrate(made, calibration.split(32), like=model)
    return made


@torch.no_grad()
def _top1(model: nn.Module, pictures: Pictures) -> float:
    model.eval()
    right = [model(x).argmax(1) == y for x, y in zip(*(each.split(50) for each in pictures), strict=True)]
    return round(100 * float(torch.cat(right).double().mean()), 1)


class _Segmenter(nn.Module):
    """Linear classifiers of the features at strides 8, 16 and 32, added up."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        generator = torch.Generator().manual_seed(0)
        heads = [nn.Conv2d(channels, 11, 1) for channels in (40, 112, 320)]
        for each in heads:
            assert each.bias is not None
            nn.init.normal_(each.weight, std=0.01, generator=generator)
            nn.init.zeros_(each.bias)
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, 11, H, W)."""
        y, features = self.encoder.bn1(self.encoder.conv_stem(x)), []
        for k, stage in enumerate(self.encoder.blocks):
            y = stage(y)
            features += [y] if k in (2, 4, 6) else []
        logits = [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        size = logits[0].shape[2:]
        total = torch.stack([F.interpolate(each, size, mode="bilinear") for each in logits]).sum(0)
        return F.interpolate(total, x.shape[2:], mode="bilinear")


def _tuned(encoder: nn.Module, data: Data, steps: int) -> dict[str, Any]:
    """Fine-tune with SGD, each ghost batch of two pictures; SSN's logits as in its paper."""
    encoder.conv_head, encoder.bn2 = nn.Identity(), nn.Identity()
    model = _Segmenter(encoder)
    switchnorm.ghost(model, GHOST)
    layers = [layer for _, layer in mixing_layers(model)]
    logits = [p for layer in layers for p in (layer.mean_weight, layer.var_weight)]
    sparse = any(hasattr(layer, "radius") for layer in layers)
    apart = {id(p) for p in logits}
    groups = [{"params": [p for p in model.parameters() if id(p) not in apart], "weight_decay": 1e-4, "factor": 1.0}]
    groups += [{"params": logits, "factor": 0.1 if sparse else 1.0}] if logits else []
    optimizer = torch.optim.SGD(groups, RATE, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    (x, y), before = data.tuning, _importance(layers)
    queue = torch.cat([torch.randperm(len(x), generator=order) for _ in range(1 + BATCH * steps // len(x))])
    gradients, halfway = [], 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * group["factor"] * (1 - step / steps) ** 0.9 * min(1, (step + 1) / 10)
        chosen = queue[BATCH * step : BATCH * (step + 1)]
        pixels, labels = (each[chosen].flip(-1) if step % 2 else each[chosen] for each in (x, y))
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(pixels), labels, ignore_index=11).backward()
        if logits and step < 10:
            gradients.append(torch.stack([p.grad for p in logits if p.grad is not None]).abs().mean(0))
        if sparse:
            nn.utils.clip_grad_norm_(logits, 1.0)
            switchnorm.set_radius(model, step / steps)
        optimizer.step()
        if sparse:
            switchnorm.harden(model)
        if step + 1 == steps // 3:
            halfway = _mean_iou(model, data.validation)
    found: dict[str, Any] = {"mean_iou_early": halfway, "mean_iou": _mean_iou(model, data.validation)}
    if logits:
        after = _importance(layers)
        found["gradient"] = [float(f"{value:.1e}") for value in torch.stack(gradients).mean(0)]
        found["importance"] = [round(value, 3) for value in after.mean((0, 1)).tolist()]
        found["moved"] = [round(value, 4) for value in (after - before).abs().mean((0, 1)).tolist()]
        found["moved_most"] = round(float((after - before).abs().max()), 3)
    return found


@torch.no_grad()
def _importance(layers: Sequence[Any]) -> Tensor:
    """(layers, mean and variance, K)."""
    return torch.stack([torch.stack(layer.importance()) for layer in layers]) if layers else torch.empty(0)


@torch.no_grad()
def _mean_iou(model: nn.Module, pictures: Pictures) -> float:
    model.eval()
    counts = torch.zeros(11, 12)
    for x, y in zip(*(each.split(10) for each in pictures), strict=True):
        counts += torch.bincount((model(x).argmax(1) * 12 + y.clamp(max=11)).flatten(), minlength=132).view(11, 12)
    both = counts[:, :11].diag()
    union = counts[:, :11].sum(0) + counts[:, :11].sum(1) - both
    return round(100 * float((both / union.clamp(min=1)).mean()), 1)


def imagenet(root: Path, first: int, count: int) -> Pictures:
    """Pictures of so many classes, from one on: short side 256 bicubic, centre 224, mean = deviation = 0.5."""
    from torchvision.transforms import v2

    folders = sorted(path for path in root.iterdir() if path.is_dir())
    labels = list(range(first, len(folders), max(1, len(folders) // count)))[:count]
    resize = v2.Resize(256, v2.InterpolationMode.BICUBIC)
    pictures = [Image.open(min(folders[label].iterdir())).convert("RGB") for label in labels]
    pixels = [v2.functional.pil_to_tensor(v2.functional.center_crop(resize(each), [224, 224])) for each in pictures]
    return torch.stack(pixels).float() / 127.5 - 1, torch.tensor(labels)


def _camvid(root: Path, split: str, step: int) -> Pictures:
    """Every so manieth picture, small, with its labels; 11 counts nothing."""
    height, width = SIZE
    x, y = [], []
    for path in sorted((root / split).iterdir())[::step]:
        (mask,) = (root / f"{split}annot").glob(f"{path.stem}.*")
        x.append(np.array(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)))
        y.append(np.array(Image.open(mask).resize((width, height), Image.Resampling.NEAREST)))
    return torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.from_numpy(np.stack(y)).long()
