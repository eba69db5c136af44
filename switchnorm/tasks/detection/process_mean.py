"""Counts over all processes, by which losses are divided."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def process_mean(count: Tensor, /, least: float = 0.0) -> Tensor:
    """The mean of a count over all processes, of the same shape; every process must call, in the same order.

    DDP averages gradients over processes. So a loss that each of them divides by this has the gradient of the whole
    batch's sum over the whole batch's count, however unequal the shares are.

    Args:
        count: of this process.
        least: what the total over all processes counts as at least.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return count.clamp(min=least)
    total = count.detach().clone()
    dist.all_reduce(total)
    return total.clamp(min=least) / dist.get_world_size()
