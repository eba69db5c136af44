"""What an evaluation writes besides its scores, where a flag of the task asks for it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytorch_lightning as pl
import torch.distributed as dist

if TYPE_CHECKING:
    from switchnorm.data import Dataset

_Value = TypeVar("_Value")


class Output(pl.Callback):
    """Made before an evaluation as `Class(path, dataset, **options)`, told of its batches, written after it.

    `path` is what the flag names, `options` are the values of the flags that change it, see
    `switchnorm.config.task_spec.Flag`. What is wrong with these raises `InputError` in the constructor.
    """

    @abstractmethod
    def write(self) -> str:
        """Write what was found, in the first process alone; returns the line to print."""


#: Makes an output for the dataset that is evaluated.
MakeOutput = Callable[["Dataset"], Output]


def of_all_processes(trainer: pl.Trainer, value: _Value) -> list[Any]:
    """The values of all processes in the order of their ranks; all must call."""
    if trainer.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(gathered, value)
    return gathered
