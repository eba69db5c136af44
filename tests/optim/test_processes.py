"""SparseSchedule in real processes: all have the same radius and choices, with any way of sending buffers.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from switchnorm import SparseSchedule, importance, parameter_groups
from switchnorm.layers.norms.switch import whole
from tests.optim.nets import batches, loss_of, network, radii, sparse

COLLECTIVE_SECONDS, PROCESS_SECONDS = 60, 150
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


def sharded() -> dict[str, Any]:
    """All processes see all of the data, so that the state is that of a plain loop."""
    model = network()
    fully_shard(model)
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.02, sparse_lr_factor=1.0), lr=0.02)
    SparseSchedule(optimizer, model, STEPS)
    for batch in batches(STEPS):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    chosen = [(row.mean, row.var, row.frozen) for row in importance(model)]
    return {
        "radii": radii(model),
        "chosen": chosen,
        "logits": [whole(layer.mean_weight).detach() for layer in sparse(model)],
    }


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    options = {"init_method": f"file://{folder / 'store'}", "timeout": timedelta(seconds=COLLECTIVE_SECONDS)}
    dist.init_process_group("gloo", rank=rank, world_size=2, **options)
    found = {broadcast: trained(rank, broadcast) for broadcast in (True, False)}
    torch.save({**found, "sharded": sharded()}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_all_processes_have_the_same_radius_and_choices(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.optim.test_processes"]
    started = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    try:
        errors = [each.communicate(timeout=PROCESS_SECONDS)[1] for each in started]
    finally:
        for each in started:
            each.kill()
    for each, error in zip(started, errors, strict=True):
        assert each.returncode == 0, error
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
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
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.02, sparse_lr_factor=1.0), lr=0.02)
    SparseSchedule(optimizer, model, STEPS)
    for batch in batches(STEPS):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    for found in (first["sharded"], second["sharded"]):
        assert found["radii"] == [1, 1]
        assert found["chosen"] == [(row.mean, row.var, True) for row in importance(model)]
        torch.testing.assert_close(found["logits"], [layer.mean_weight.detach() for layer in sparse(model)])


if __name__ == "__main__":
    process(int(sys.argv[1]), Path(sys.argv[2]))
