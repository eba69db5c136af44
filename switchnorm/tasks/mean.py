"""A mean over the samples of many batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric


class SampleMean(Metric):
    """The mean of a quantity over all samples of all processes, which counts a batch without waiting for the device.

    torchmetrics' own searches every update for NaN, which waits for the device in each step; here a NaN is kept.
    """

    full_state_update = False
    mean_value: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean_value", "weight"):  # as checkpoints have them
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor | int) -> None:
        """Count a batch: the sum over its samples, (), and their number, () where the device knows it."""
        self.mean_value += total
        self.weight += count

    def compute(self) -> Tensor:
        """The mean, (); NaN of no samples."""
        return self.mean_value / self.weight

    @property
    def sums(self) -> dict[str, Tensor]:
        """What this process has counted, each ()."""
        return {"mean_value": self.mean_value, "weight": self.weight}

    def restore(self, sums: Mapping[str, Tensor]) -> None:
        """Go on from `sums`."""
        self.mean_value, self.weight = (sums[name].to(self.device) for name in ("mean_value", "weight"))
        self._update_count = 1


def own_sum(sums: Tensor, rank: int, world: int) -> Tensor:
    """What a process goes on with of sums that several have saved, (P,), or that one has, (): (), the same in total.

    Args:
        sums: of each process that saved them.
        rank: of this process, 0 <= rank < world.
        world: number of processes now; if it is another than P, the first takes all.
    """
    each = sums.reshape(-1)
    if len(each) == world:
        return each[rank].clone()
    return each.sum() if rank == 0 else torch.zeros_like(each[0])
