"""What Batch Norm's statistics are worth by the samples that they are taken from.

EfficientNet-Lite0 with its ImageNet weights, evaluated with the statistics of groups of N pictures in place of its
running ones: how many pictures it still knows, and how far each layer's statistics are from the running ones. Needs
timm, the weights as timm names them, and pictures of ImageNet in a folder per class (sorted as the classes are).
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.record import head
from benchmarks.start import Pictures, imagenet, trained

RECORD = Path("docs/results/samples.json")
SAMPLES = (1, 2, 4, 8, 16, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    parser.add_argument("--weights", type=Path, required=True, help="tf_efficientnet_lite0.safetensors")
    parser.add_argument("--imagenet", type=Path, required=True, help="a folder per class")
    parser.add_argument("--pictures", type=int, default=160, help="evaluated; a multiple of 32")
    parser.add_argument("--json", type=Path, default=RECORD, help=f"the record (default: {RECORD})")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measure, print and record a row for each number of samples."""
    torch.set_num_threads(1)
    model = trained(options.weights)
    x, y = imagenet(options.imagenet, 0, options.pictures)
    # Neighbours in the folder are alike (120 are dogs); a batch of training is not.
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    pictures = (x[order], y[order])
    rows: list[dict[str, Any]] = []
    for samples in (None, *SAMPLES):
        network = model if samples is None else by_batches(model)
        rows.append({"samples": samples, **measured(network, pictures, samples or 32)})
        print(json.dumps(rows[-1]), flush=True)
    record = {**head(arguments), "pictures": len(x), "rows": rows}
    options.json.write_text(json.dumps(record, indent=1) + "\n")


def by_batches(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose batch normalizations take the statistics of their batch, and keep none."""
    made = copy.deepcopy(model).eval()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
            layer.train()
    return made


@torch.no_grad()
def measured(model: nn.Module, pictures: Pictures, samples: int) -> dict[str, Any]:
    """Top-1 in % of pictures in groups of so many, and how far statistics are from the running ones.

    The distance of means is in running deviations, that of deviations relative to these: root mean squares over
    channels, means over groups and layers.
    """
    distances: defaultdict[str, list[float]] = defaultdict(list)

    def look(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        deviation = (layer.running_var + layer.eps).sqrt()  # channels that are always 0 have none of their own
        distances["mean"].append(float(((mean - layer.running_mean) / deviation).square().mean().sqrt()))
        distances["deviation"].append(float(((var + layer.eps).sqrt() / deviation - 1).square().mean().sqrt()))

    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers if layer.training]
    right = [model(x).argmax(1) == y for x, y in zip(*(each.split(samples) for each in pictures), strict=True)]
    for hook in hooks:
        hook.remove()
    found = {name: round(sum(values) / len(values), 3) for name, values in distances.items()}
    return {"top1": round(100 * float(torch.cat(right).double().mean()), 1), **found}
