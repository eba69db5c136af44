"""Real processes: detectors by their names, three processes of a picture each and their ghost batches of one.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from switchnorm import ghost, sync
from switchnorm.models import create_model
from switchnorm.surgery.statistics import running_statistics
from switchnorm.tasks.detection.process_mean import process_mean
from tests import processes
from tests.surgery.detectors import pictures, uneven

WORLD = 3
NORMS = ("bn", "sn", "ssn", "ibn")
#: Networks, options that keep them small, and normalizers.
TWO_STAGE = {"rois_per_image": 12, "proposals_train": 20}
FOREIGN = {"box_batch_size_per_image": 12, "rpn_post_nms_top_n_train": 20}
NETWORKS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "resnet18_fpn16+faster_4conv1fc": ({**TWO_STAGE, "box_channels": 16}, NORMS),
    "resnet18_fpn16+mask_4conv1fc": ({**TWO_STAGE, "box_channels": 16}, NORMS),
    "resnet18_c4+faster": (TWO_STAGE, NORMS),
    "resnet18_fpn16+retina": ({}, NORMS),
    "resnet18_fpn16+fcos": ({}, NORMS),
    "fasterrcnn_resnet50_fpn_v2": (FOREIGN, ("bn", "sn")),
    "maskrcnn_resnet50_fpn_v2": (FOREIGN, ("bn", "sn", "ssn")),
    "retinanet_resnet50_fpn_v2": ({}, ("sn",)),
    "ssdlite320_mobilenet_v3_large": ({}, ("sn",)),
}
#: Pictures without objects: of three the second, which is all that its process has; or all.
EMPTY = {"one": (1,), "all": (0, 1, 2)}
#: So many numbers of each gradient are compared, for all of them would fill the disk.
SOME = 512
Found = dict[str, Tensor]


def detector(name: str, norm: str) -> Any:
    torch.manual_seed(0)
    options, _ = NETWORKS[name]
    return uneven(create_model(name, norm=norm, num_classes=2, **options).double())


def step(model: Any, batch: tuple[list[Tensor], list[Any]]) -> Found:
    """The losses of a step, gradients, and running statistics after it; means over processes are the whole batch's."""
    if dist.is_initialized():
        model.mean_over_processes = process_mean
    losses = model(*batch)
    torch.stack([*losses.values()]).sum().backward()
    gradients = {f"grad {name}": p.grad for name, p in model.named_parameters()}
    kept = {f"running {name}": value.clone() for name, value in running_statistics(model).items()}
    values = {name: value.detach() for name, value in losses.items()} | gradients | kept
    return {name: value.flatten()[:: max(1, value.numel() // SOME)].clone() for name, value in values.items()}


def cases() -> list[tuple[str, str, str]]:
    """Name, normalizer, and which pictures are empty."""
    return [(name, norm, empty) for name, (_, norms) in NETWORKS.items() for norm in norms for empty in EMPTY]


def batch_of(name: str, empty: str) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Pictures of 64 pixels, or where they would be too small of 160.

    bn takes several values of a single picture on the coarsest map; and over few of them fifty layers make rounding so
    much larger that gradients are no longer equal to 1e-12.
    """
    small = name.startswith("resnet18") and ("faster" in name or "mask" in name)
    return pictures(WORLD, empty=EMPTY[empty], side=64 if small else 160)


def found(rank: int, world: int) -> dict[tuple[str, ...], Found]:
    results = {}
    for name, norm, empty in cases():
        images, targets = batch_of(name, empty)
        share = images[rank : rank + 1], targets[rank : rank + 1]
        results[name, norm, empty, "alone"] = step(detector(name, norm), share)
        results[name, norm, empty, "sync"] = step(sync(detector(name, norm)), share)
    return results


@pytest.mark.sweep
def test_ghost_batches_of_a_picture_are_processes_and_synchronised_ones_the_whole_batch(tmp_path: Path) -> None:
    everyone = processes.run(__name__, WORLD, tmp_path, seconds=1500)
    worst = 0.0
    for name, norm, empty in cases():
        batch = batch_of(name, empty)
        model = detector(name, norm)
        grouped, whole = (step(each, batch) for each in (ghost(copy.deepcopy(model), 1), model))
        for mode, expected in (("alone", grouped), ("sync", whole)):
            for key, value in expected.items():
                together = torch.stack([process[name, norm, empty, mode][key] for process in everyone]).mean(0)
                error = float((together - value).abs().max()) / max(1.0, float(value.abs().max()))
                assert error <= 1e-12, (name, norm, empty, mode, key, error)
                worst = max(worst, error)
    assert worst > 0, "other orders of sums"


if __name__ == "__main__":
    processes.process(found)
