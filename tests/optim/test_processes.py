"""SparseSchedule in real processes: all have the same radius and choices, with any way of sending buffers.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

from switchnorm import SparseSchedule, importance, parameter_groups
from switchnorm.layers.norms.switch import whole
from tests import processes
from tests.optim.nets import batches, loss_of, network, radii, sparse

STEPS = 12


def trained(rank: int, broadcast: bool) -> dict[str, Any]:
    model = network()
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=broadcast)
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.02, sparse_lr_factor=1.0), lr=0.02, momentum=0.9)
    SparseSchedule(optimizer, wrapped, STEPS)
    seen = []
    for x, target in batches(STEPS, samples=6):
        seen.append(radii(model))
        optimizer.zero_grad()
        loss_of(wrapped, (x.chunk(2)[rank], target.chunk(2)[rank])).backward()
        optimizer.step()
    return {"seen": seen, "state": model.state_dict()}


def train(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.02, sparse_lr_factor=1.0), lr=0.02)
    SparseSchedule(optimizer, model, STEPS)
    for batch in batches(STEPS):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def sharded() -> dict[str, Any]:
    """All processes see all of the data, so that the state is that of a plain loop."""
    model: Any = network()
    fully_shard(model)
    model.set_force_sum_reduction_for_comms(True)  # torch 2.8 adds up on a CPU what it should average, in any model
    train(model)
    chosen = [(row.mean, row.var, row.frozen) for row in importance(model)]
    return {
        "radii": radii(model),
        "chosen": chosen,
        "logits": [whole(layer.mean_weight).detach() for layer in sparse(model)],
    }


def found(rank: int, world: int) -> dict[Any, Any]:
    return {**{broadcast: trained(rank, broadcast) for broadcast in (True, False)}, "sharded": sharded()}


def test_all_processes_have_the_same_radius_and_choices(tmp_path: Path) -> None:
    first, second = processes.run(__name__, 2, tmp_path)
    for broadcast in (True, False):
        ours, theirs = first[broadcast], second[broadcast]
        expected = [[float(torch.tensor(step / (STEPS - 1)))] * 2 for step in range(STEPS)]
        assert ours["seen"] == theirs["seen"] == expected
        for key, value in ours["state"].items():
            if "running" not in key:  # these are each process's own
                assert torch.equal(value, theirs["state"][key]), key
            if key.endswith(("fixed", "radius")):
                assert value == 1
    model = network()
    train(model)
    for ours in (first["sharded"], second["sharded"]):
        assert ours["radii"] == [1, 1]
        assert ours["chosen"] == [(row.mean, row.var, True) for row in importance(model)]
        torch.testing.assert_close(ours["logits"], [layer.mean_weight.detach() for layer in sparse(model)])


if __name__ == "__main__":
    processes.process(found)
