"""What happens around the steps of a run: the radius, randomness, the tables of metrics and importance."""

from __future__ import annotations

import random
import time
from typing import Any

import pytorch_lightning as pl
import torch

from switchnorm.surgery import freeze_statistics, harden, importance, set_radius
from switchnorm.surgery.importance import sparse_layers
from switchnorm.tasks import Task
from switchnorm.training.config import Task as TaskName
from switchnorm.training.optimizer import current_lr
from switchnorm.training.run_folder import IMPORTANCE, EpochTable, RunFolder
from switchnorm.training.scores import columns


class RadiusSchedule(pl.Callback):
    """SSN's radius: from 0 in the first step to 1 in the last; what became one-hot is made final after each epoch.

    Args:
        steps: optimizer steps of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._sparse = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See whether there is a radius to set: looking through all modules takes a while, and steps may be short."""
        self._sparse = bool(sparse_layers(pl_module))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Set the radius of this step."""
        if self._sparse:
            set_radius(pl_module, min(trainer.global_step / max(self.steps - 1, 1), 1.0))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make final what has become one-hot, before it is evaluated and saved."""
        harden(pl_module)


class FrozenStatistics(pl.Callback):
    """Keeps batch statistics in training at the running ones that the network started with."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze them: an epoch that is resumed in its middle does not start."""
        freeze_statistics(pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze them, after whoever put the network into training mode."""
        freeze_statistics(pl_module)


class StepSeed(pl.Callback):
    """Makes randomness inside a step (dropout) a function of (seed, step, process), so that none need be saved.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Seed the generators for this step."""
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        mixed = hash((self.seed, step, trainer.global_rank)) & (2**63 - 1)  # hashes of integers do not vary
        torch.manual_seed(mixed)
        random.seed(mixed)


class History(pl.Callback):
    """Writes metrics.csv and importance.csv after each epoch, and the same numbers to TensorBoard.

    Args:
        run: where to.
        task: what is measured.
    """

    def __init__(self, run: RunFolder, task: TaskName) -> None:
        self.run = run
        self.columns = columns(task)
        self.earlier = 0.0
        self.began = 0.0
        self.images = 0
        self.seconds = 0.0
        self.started = 0.0
        self.rows: list[tuple[int, str, str, str, float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the tables, and start the clock of an epoch that is resumed in its middle."""
        self.began = self.started = time.monotonic()
        if trainer.is_global_zero:
            self.earlier = float(self.run.record()["seconds"] or 0)
            self.metrics = EpochTable(self.run.metrics_file, self.columns, trainer.current_epoch)
            if importance(pl_module):
                self.importance = EpochTable(self.run.importance_file, IMPORTANCE, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.images = 0
        self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count images; the clock stands still during validation."""
        self.images += len(batch[1]) * trainer.world_size
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # steps are handed to the device well before it takes them
        self.seconds = time.monotonic() - self.started

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read what the layers chose, in the weights that are being evaluated."""
        self.rows = _importance_rows(trainer.current_epoch, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's rows."""
        assert isinstance(pl_module, Task)
        values: dict[str, Any] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values |= pl_module.take_training_metrics()
        values |= {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": current_lr(trainer.optimizers[0]),
            "images_per_second": round(self.images / self.seconds, 1) if self.seconds else "",
        }
        if sparse := sparse_layers(pl_module):
            values["radius"] = float(sparse[0].radius)
        if not trainer.is_global_zero:
            return
        self.metrics.append([[values.get(name, "") for name in self.columns]])
        scalars = {name: value for name in self.columns[2:] if isinstance(value := values.get(name), float)}
        if self.rows:
            self.importance.append(self.rows)
        scalars |= {f"importance/{layer}/{moment}/{statistic}": v for _, layer, moment, statistic, v in self.rows}
        self.run.update_record(seconds=round(self.earlier + time.monotonic() - self.began, 1))
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)


def _importance_rows(epoch: int, module: pl.LightningModule) -> list[tuple[int, str, str, str, float]]:
    return [
        (epoch, row.layer.removeprefix("model."), moment, statistic, round(value, 6))
        for row in importance(module)
        for moment, weights in (("mean", row.mean), ("var", row.var))
        for statistic, value in zip(row.statistics, weights, strict=True)
    ]
