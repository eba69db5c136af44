"""Real processes: ghost batches of a detector's pictures are what processes of so many pictures compute.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm import ghost, switch, sync
from switchnorm.surgery.statistics import running_statistics
from tests import processes
from tests.surgery.detectors import mask_rcnn, outputs, pictures

NORMS = ("bn", "sn", "ssn", "ibn")
#: Pictures of every process, by their number; a process has only pictures without objects.
SAMPLES, EMPTY = {2: 2, 3: 1}, {2: (2, 3), 3: (1,)}
Found = dict[str, Tensor]


def detector(norm: str) -> nn.Module:
    model: nn.Module = switch(mask_rcnn(), norm)
    for name, parameter in model.named_parameters():
        if name.endswith(("mean_weight", "var_weight")):
            nn.init.normal_(parameter, 1.0 / 3, 0.2, generator=torch.Generator().manual_seed(len(name)))
    return model.train()


def step(model: nn.Module, batch: tuple[list[Tensor], list[Any]]) -> Found:
    """The sums of losses of a step, gradients, and running statistics after it."""
    found = outputs(model, *batch)
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
    for norm in NORMS:
        results[norm] = step(detector(norm), share(world, rank))
        results[f"{norm} sync"] = step(sync(detector(norm)), share(world, rank))
    return results


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.sweep)])
def test_groups_of_pictures_are_processes_and_synchronised_ones_the_whole_batch(world: int, tmp_path: Path) -> None:
    everyone = processes.run(__name__, world, tmp_path)
    batch = pictures(world * SAMPLES[world], empty=EMPTY[world])
    for norm in NORMS:
        model = detector(norm)
        for case, expected in (
            (norm, step(ghost(copy.deepcopy(model), SAMPLES[world]), batch)),
            (f"{norm} sync", step(copy.deepcopy(model), batch)),
        ):
            for name, value in expected.items():
                each = torch.stack([process[case][name] for process in everyone])
                together = each.mean(0) if name.startswith("running") else each.sum(0)
                size = max(1.0, float(value.abs().max()))
                error = float((together - value).abs().max())
                assert error <= 1e-12 * size, (case, name, error)


if __name__ == "__main__":
    processes.process(found)
