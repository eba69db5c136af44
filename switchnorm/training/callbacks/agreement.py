"""What one of several processes has found, and all have to know before any of them acts on it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from switchnorm.processes import world_size


class Agreement:
    """Small messages between the processes of a training, on the CPU, so that no device is waited for.

    Every process must call each method at the same place; one process alone agrees with itself. After the context it
    holds nothing of the processes' group, whose threads end with the last who holds it.
    """

    def __init__(self) -> None:
        self._group: Any = None

    def __enter__(self) -> Agreement:
        return self

    def __exit__(self, *error: object) -> None:
        self._group = None

    def largest(self, value: int) -> int:
        """The largest of the processes' values."""
        if world_size() == 1:
            return value
        found = torch.tensor([value])
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._on_the_cpu())
        return int(found)

    def first(self, value: str) -> str:
        """The value of the first process that has one; "" if none has."""
        if world_size() == 1:
            return value
        every: list[Any] = [None] * world_size()
        dist.all_gather_object(every, value, group=self._on_the_cpu())
        return next(filter(None, every), "")

    def _on_the_cpu(self) -> Any:
        if self._group is None:
            self._group = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        return self._group
