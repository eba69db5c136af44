"""Real processes: synchronised statistics are those of one big batch, and distributed training takes hardened layers.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from switchnorm.layers import (
    BatchChannelNorm2d,
    BatchNorm1d,
    BatchNorm2d,
    InstanceBatchNorm1d,
    InstanceBatchNorm2d,
    SparseSwitchNorm2d,
    SwitchNorm1d,
    SwitchNorm2d,
)
from tests import processes

SIZES = {2: ((5, 3), (4, 0), (1, 1), (0, 0)), 3: ((3, 0, 4), (1, 2, 5))}
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "sn 2d": (SwitchNorm2d, (6, 4, 5)),
    "sn 2d batch": (lambda c, **options: SwitchNorm2d(c, ("batch", "group:2"), **options), (6, 3, 3)),
    "sn 1d": (SwitchNorm1d, (6,)),
    "ssn 2d": (SparseSwitchNorm2d, (6, 4, 5)),
    "bn 2d": (BatchNorm2d, (6, 4, 5)),
    "bn 1d": (BatchNorm1d, (6,)),
    "ibn 2d": (InstanceBatchNorm2d, (5, 4, 5)),
    "ibn 1d": (lambda c, **options: InstanceBatchNorm1d(c, instance_channels=0, **options), (6,)),
    # It has no ghost batches, and one of the whole batch is none.
    "bcn 2d": (lambda c, ghost=None, **options: BatchChannelNorm2d(c, **options), (6, 4, 5)),
}
#: Layers that can do without running statistics.
UNTRACKED = [name for name in LAYERS if not name.startswith("bcn")]


class Case(NamedTuple):
    name: str
    sizes: tuple[int, ...]
    dtype: torch.dtype
    offset: float

    def layer(self, **options: Any) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        kind, (channels, *_) = LAYERS[self.name]
        layer = kind(channels, momentum=0.3, **options).to(self.dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        return layer

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """x and dy of every process; each process sees another offset."""
        generator = torch.Generator().manual_seed(2)
        for rank, size in enumerate(self.sizes):
            x, dy = torch.randn(2, size, *LAYERS[self.name][1], generator=generator, dtype=torch.float64)
            yield (x + self.offset * (rank + 1)).to(self.dtype), dy.to(self.dtype)


def cases(world: int) -> list[Case]:
    return [Case(*case) for case in product(LAYERS, SIZES[world], (torch.float32, torch.float64), (0.0, 1e4))]


def step(layer: nn.Module, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    """One training step's output, gradients and buffers."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(dy)
    assert x.grad is not None
    found = {"y": y.detach(), "dx": x.grad}
    found |= {f"grad {name}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return found | {f"buffer {name}": buffer for name, buffer in layer.named_buffers()}


def distributed_training(model: nn.Module, wrapped: nn.Module, x: Tensor, target: Tensor) -> list[float]:
    """Five steps, the choices final after the second; the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for index in range(5):
        optimizer.zero_grad()
        loss = (wrapped(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if index == 1:
            for layer in model.modules():
                if isinstance(layer, SparseSwitchNorm2d):
                    layer.set_radius(1)
                    assert layer.harden()
    return losses


def network(sync: bool) -> nn.Module:
    torch.manual_seed(3)
    layers = [SparseSwitchNorm2d(8, sync=sync) for _ in range(2)]
    with torch.no_grad():
        for layer in layers:
            layer.mean_weight.copy_(torch.tensor([0.2, 0.3, 0.6]))
            layer.var_weight.copy_(torch.tensor([0.2, 0.6, 0.3]))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), layers[0], nn.ReLU(), nn.Conv2d(8, 8, 3), layers[1], nn.Flatten())
    return model.append(nn.Linear(32, 2))


def training_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(8, 3, 6, 6, generator=generator), torch.randn(8, 2, generator=generator)


def found(rank: int, world: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for index, case in enumerate(cases(world)):
        layer = case.layer(sync=True if index % 2 else dist.group.WORLD)
        results[str(case)] = step(layer, *list(case.batches())[rank])
        if rank == 0:
            # Evaluation waits for nobody, also where it takes the statistics of its own batch.
            x = torch.cat([part for part, _ in case.batches()])
            layer.eval()(x)
            if case.name in UNTRACKED:
                alone = [case.layer(sync=sync, track_running_stats=False).eval()(x) for sync in (True, False)]
                torch.testing.assert_close(*alone, rtol=0, atol=0)
    if world == 2:
        model = network(sync=True)
        wrapped = nn.parallel.DistributedDataParallel(model)
        x, target = (part.chunk(2)[rank] for part in training_data())
        results["losses"] = distributed_training(model, wrapped, x, target)
        results["state"] = model.state_dict()
    return results


@pytest.mark.parametrize("world", [2, 3])
def test_processes(world: int, tmp_path: Path) -> None:
    all_found = processes.run(__name__, world, tmp_path)
    synchronised_statistics_are_those_of_one_big_batch(all_found)
    if world == 2:
        distributed_training_goes_on_after_hardening(*all_found)


def synchronised_statistics_are_those_of_one_big_batch(processes: list[dict[str, Any]]) -> None:
    failures = []
    for case in cases(len(processes)):
        found = [results[str(case)] for results in processes]
        parts = list(case.batches())
        x, dy = (torch.cat(column).double() for column in zip(*parts, strict=True))
        expected = step(case.layer().double(), x, dy)
        rounded = step(case.layer(ghost=len(x) or None), x.to(case.dtype), dy.to(case.dtype))
        for key, value in expected.items():
            if key in ("y", "dx"):
                ours = torch.cat([each[key] for each in found])
            elif key.startswith("grad"):
                ours = torch.stack([each[key] for each in found]).sum(0)
            else:
                ours = found[0][key]
                for each in found[1:]:
                    torch.testing.assert_close(each[key], ours)
            assert ours.dtype == (case.dtype if value.is_floating_point() else value.dtype)
            # torch's own pass counts batches without samples too.
            if not value.numel() or (not len(x) and key.endswith("num_batches_tracked")):
                continue
            error, alone = (float((each.double() - value).abs().max()) for each in (ours, rounded[key]))
            size = float(value.abs().max())
            # float64 shows that the sums are the same: 1e4 leaves it 12 digits. In float32 one big batch is itself
            # up to 1e-3 away where an offset of 1e4 rounds its means, or gradients cancel; so may the processes be.
            allowed = 1e-6 * size + 10 * alone if case.dtype == torch.float32 else 1e-10 * max(size, 1)
            if error > allowed:
                failures.append((*case, key, error, alone, size))
    assert not failures, "\n".join(map(str, failures))


def distributed_training_goes_on_after_hardening(first: dict[str, Any], second: dict[str, Any]) -> None:
    torch.testing.assert_close(first["state"], second["state"])
    model = network(sync=False)
    losses = distributed_training(model, model, *training_data())
    mean = [(a + b) / 2 for a, b in zip(first["losses"], second["losses"], strict=True)]
    # Five steps of float32 training apart: the order of sums differs between one batch and two halves.
    torch.testing.assert_close(mean, losses, rtol=1e-4, atol=0)
    torch.testing.assert_close(first["state"], model.state_dict(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_one_process_needs_no_process_group(name: str) -> None:
    case = Case(name, (4,), torch.float32, 0.0)
    (batch,) = case.batches()
    ours, theirs = step(case.layer(sync=True), *batch), step(case.layer(), *batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


if __name__ == "__main__":
    warnings.simplefilter("error", FutureWarning)
    processes.process(found)
