"""The running statistics of several processes that train one model, each on samples of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from switchnorm.layers.arguments import check_model
from switchnorm.surgery.statistics import tracked_buffers


def average_statistics(model: nn.Module) -> None:
    """Let the running statistics of a model be the mean over all processes, in place; every process must call.

    Statistics that all processes share, as those of synchronised layers, stay bit for bit. One process alone changes
    nothing. Counters of batches, which differ where a process had batches without samples, become the largest.

    SSN's published training does so before each validation; all processes then have what one process with ghost batches
    has, for the mean of moving averages is the moving average of means. Only nearly so where a process had batches
    without samples, as a mask head has on pictures without objects: its own average stayed what it was.
    """
    check_model("average_statistics", model)
    average(tracked_buffers(model))


@torch.no_grad()
def average(tensors: Mapping[str, Tensor]) -> None:
    """Let tensors be what `process_mean` is of all processes, in place; every process must call, with the same keys."""
    for key, each in gathered(tensors).items():
        tensors[key].copy_(process_mean(each))


@torch.no_grad()
def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What each process has: tensors (*S) -> (P, *S), in the order of ranks, by their keys.

    Every process must call, with the same keys and shapes.
    """
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if world == 1:
        return {key: tensor[None] for key, tensor in tensors.items()}
    found: dict[str, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        alike = {key: tensor for key, tensor in tensors.items() if tensor.dtype == dtype}
        flat = torch.cat([tensor.flatten() for tensor in alike.values()])  # one message for all of them
        every = [torch.empty_like(flat) for _ in range(world)]
        dist.all_gather(every, flat)
        parts = torch.stack(every).split([tensor.numel() for tensor in alike.values()], 1)
        found |= {key: part.view(world, *alike[key].shape) for key, part in zip(alike, parts, strict=True)}
    return found


def process_mean(each: Tensor) -> Tensor:
    """The mean over processes, (P, *S) -> (*S), of counters the largest; what all share stays bit for bit."""
    if len(each) == 1:
        return each[0]
    if not each.is_floating_point():
        return each.amax(0)
    # Summed here, in the order of ranks, so that every process gets the same bits, and a resumed run too.
    return torch.where((each == each[0]).all(0), each[0], each.double().mean(0).to(each.dtype))
