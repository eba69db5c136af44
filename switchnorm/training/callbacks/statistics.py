"""Which statistics validation and evaluation normalize by."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from switchnorm.config.statistics import EvaluationStatistics
from switchnorm.surgery import average_statistics, batch_statistics, calibrate
from switchnorm.surgery.statistics import tracked_buffers
from switchnorm.tasks.task import Task
from switchnorm.training.loaders import Loaders


class MeanStatistics(pl.Callback):
    """Lets running statistics be the mean over processes from each validation on, see `average_statistics`."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Average, before anything is evaluated and saved."""
        average_statistics(pl_module)


class Calibration(pl.Callback):
    """Averages running statistics anew before each validation, over the run's first training batches.

    They are evaluated and saved with the weights that the network then holds. Training goes on with its own, so that it
    is the same with and without calibration, also where layers normalize by running statistics in training.

    Args:
        batches: how many.
        averaged: whether validation evaluates a `WeightAverage`. Its statistics stay calibrated, for training uses none
            of them.
    """

    def __init__(self, batches: int, averaged: bool) -> None:
        self.batches = batches
        self.averaged = averaged
        self._own: dict[str, Tensor] = {}

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Calibrate the weights that are evaluated; where a run was interrupted in validation, once more."""
        self._put_back(pl_module)
        if not self.averaged:
            self._own = {key: buffer.clone() for key, buffer in tracked_buffers(pl_module).items()}
        recalibrate(trainer, pl_module, self.batches)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Put training's own statistics back: last.ckpt, which holds the calibrated ones, has been written by now."""
        self._put_back(pl_module)

    def _put_back(self, pl_module: pl.LightningModule) -> None:
        if self._own:
            buffers = tracked_buffers(pl_module)
            for key, value in self._own.items():
                buffers[key].copy_(value)
            self._own = {}

    def state_dict(self) -> dict[str, Any]:
        """Training's own statistics, for a run that is resumed after this epoch; all processes have the same."""
        return {"own": self._own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them for the first batch."""
        self._own = state_dict["own"]


class ChosenStatistics(pl.Callback):
    """Lets one evaluation normalize by other statistics than the running ones that the network holds.

    Args:
        statistics: by which.
    """

    def __init__(self, statistics: EvaluationStatistics) -> None:
        self.statistics = statistics
        self._entered = ExitStack()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Calibrate, or let batches count; the network is in evaluation mode by now."""
        if self.statistics.kind == "calibrate":
            recalibrate(trainer, pl_module, self.statistics.batches)
        elif self.statistics.kind == "batch":
            self._entered.enter_context(batch_statistics(pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let batches count no more."""
        self._entered.close()


def recalibrate(trainer: pl.Trainer, task: pl.LightningModule, count: int) -> None:
    """Average the running statistics of a task's network over its run's first `count` training batches.

    Every process takes its share of them, in ghost batches where the run has these, and the mean over processes counts.
    Pictures are augmented but not mixed, and nothing draws random numbers.
    """
    assert isinstance(task, Task)
    loaders = getattr(trainer, "datamodule", None)
    assert isinstance(loaders, Loaders)

    def forward(model: nn.Module, batch: Any) -> None:
        with trainer.precision_plugin.forward_context():
            task.forward_pass(trainer.precision_plugin.convert_input(batch))

    calibrate(task.model, loaders.calibration_batches(count), forward=forward)
    average_statistics(task)
