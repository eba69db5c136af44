"""Real processes: ghost batches of a detector's pictures are what processes of so many pictures compute.

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

from switchnorm import ghost, switch, sync
from switchnorm.models import create_model
from switchnorm.surgery.statistics import running_statistics
from switchnorm.tasks.detection.process_mean import process_mean
from tests import processes
from tests.surgery.detectors import mask_rcnn, outputs, pictures, uneven

#: By the number of processes networks and normalizers: torchvision's, and ours by their names.
CASES = {
    2: (("torchvision", "bn"), ("torchvision", "sn"), ("resnet18_fpn16+mask_4conv1fc", "sn")),
    3: (
        *(("torchvision", norm) for norm in ("bn", "ssn", "ibn")),
        ("resnet18_fpn16+mask_4conv1fc", "bn"),
        ("resnet18_c4+faster", "sn"),
    ),
}
#: Pictures of every process, by their number; a process has only pictures without objects.
SAMPLES, EMPTY = {2: 2, 3: 1}, {2: (2, 3), 3: (1,)}
Found = dict[str, Tensor]


def detector(network: str, norm: str) -> Any:
    if network == "torchvision":
        model = switch(mask_rcnn(), norm)
    else:
        torch.manual_seed(0)
        model = create_model(network, norm=norm, num_classes=2, rois_per_image=12).double()
    return uneven(model)


def step(model: Any, batch: tuple[list[Tensor], list[Any]]) -> Found:
    """The losses of a step, gradients, and running statistics after it.

    Of torchvision's network the losses are sums. Ours divides them by the mean over the processes of its counts, so
    that the mean over the processes is the loss of the whole batch.
    """
    ours = hasattr(model, "mean_over_processes")
    if ours and dist.is_initialized():
        model.mean_over_processes = process_mean
    found = model(*batch) if ours else outputs(model, *batch)
    loss = torch.stack([*found.values()]).sum()
    loss.backward()
    gradients = {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len([*model.parameters()])
    kept = {f"running {name}": value.clone() for name, value in running_statistics(model).items()}
    return {name: value.detach() for name, value in found.items()} | gradients | kept


def share(world: int, rank: int) -> tuple[list[Tensor], list[Any]]:
    images, targets = pictures(world * SAMPLES[world], empty=EMPTY[world])
    own = slice(rank * SAMPLES[world], (rank + 1) * SAMPLES[world])
    return images[own], targets[own]


def found(rank: int, world: int) -> dict[str, Found]:
    results = {}
    for case in CASES[world]:
        results[f"{case} alone"] = step(detector(*case), share(world, rank))
        results[f"{case} sync"] = step(sync(detector(*case)), share(world, rank))
    return results


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.sweep)])
def test_groups_of_pictures_are_processes_and_synchronised_ones_the_whole_batch(world: int, tmp_path: Path) -> None:
    everyone = processes.run(__name__, world, tmp_path)
    batch = pictures(world * SAMPLES[world], empty=EMPTY[world])
    for case in CASES[world]:
        model = detector(*case)
        grouped, whole = (step(each, batch) for each in (ghost(copy.deepcopy(model), SAMPLES[world]), model))
        for mode, expected in (("alone", grouped), ("sync", whole)):
            for name, value in expected.items():
                each = torch.stack([process[f"{case} {mode}"][name] for process in everyone])
                sums = case[0] == "torchvision" and not name.startswith("running")
                together = each.sum(0) if sums else each.mean(0)
                error = float((together - value).abs().max()) / max(1.0, float(value.abs().max()))
                assert error <= 1e-12, (case, mode, name, error)


if __name__ == "__main__":
    processes.process(found)
