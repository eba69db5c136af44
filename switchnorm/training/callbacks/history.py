"""The tables of metrics and importance, written after every epoch."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch

from switchnorm.runs.folder import RunFolder
from switchnorm.runs.importance import COLUMNS, Row, importance_rows
from switchnorm.runs.tables import EpochTable
from switchnorm.surgery import importance
from switchnorm.surgery.freeze import is_frozen
from switchnorm.surgery.importance import mixing_layers, sparse_layers
from switchnorm.tasks.task import Task
from switchnorm.training.optimizer import current_lr


class History(pl.Callback):
    """Writes metrics.csv and importance.csv after each epoch, and the same numbers to TensorBoard.

    Args:
        run: where to.
        columns: of metrics.csv.
    """

    def __init__(self, run: RunFolder, columns: tuple[str, ...]) -> None:
        self.run = run
        self.columns = columns
        self.earlier_seconds = 0.0
        self.run_started = 0.0
        self.images = 0
        self.epoch_seconds = 0.0
        self.epoch_started = 0.0
        self.rate = 0.0
        self.rows: list[Row] = []
        self.tables: list[EpochTable] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the tables, and let the clock of an epoch go on that is resumed in its middle."""
        self.run_started = time.monotonic()
        self.epoch_started = self.run_started - self.epoch_seconds
        if trainer.is_global_zero:
            self.earlier_seconds = float(self.run.record().get("seconds") or 0)
            done, start = trainer.current_epoch, self.run.config().train.start_epoch
            self.metrics = EpochTable(self.run.metrics_file, self.columns, done, start)
            self.tables = [self.metrics]
            if mixing_layers(pl_module):
                self.importance = EpochTable(self.run.importance_file, COLUMNS, done, start)
                self.tables.append(self.importance)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the tables, from which a resumed run goes on."""
        for table in self.tables:
            table.keep(checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """What the epoch's row says of its steps: a run that is resumed in its validation takes none before that."""
        return {"images": self.images, "seconds": self.epoch_seconds, "rate": self.rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self.images, self.epoch_seconds, self.rate = (state_dict[name] for name in ("images", "seconds", "rate"))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.images = 0
        self.epoch_started = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Read the learning rate of this step: once it is over, the optimizer has that of the next."""
        self.rate = current_lr(trainer.optimizers[0])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count images; the clock stands still during validation."""
        self.images += len(batch[1]) * trainer.world_size
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # steps are queued long before the device has done them
        self.epoch_seconds = time.monotonic() - self.epoch_started

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the layers' importance now, while the network holds the evaluated weights (see `WeightAverage`)."""
        assert isinstance(pl_module, Task)
        self.rows = importance_rows(trainer.current_epoch + 1, importance(pl_module.model))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's rows."""
        assert isinstance(pl_module, Task)
        values: dict[str, Any] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values |= pl_module.take_training_metrics()
        values |= {
            "epoch": trainer.current_epoch + 1,  # Lightning counts from 0, and files for people from 1
            "step": trainer.global_step,
            "learning_rate": self.rate,
            "images_per_second": round(self.images / self.epoch_seconds, 1) if self.epoch_seconds else "",
        }
        if sparse := [layer for layer in sparse_layers(pl_module) if not is_frozen(layer)]:
            values["radius"] = float(sparse[0].radius)
        if not trainer.is_global_zero:
            return
        self.metrics.append([[values.get(name, "") for name in self.columns]])
        scalars = {name: value for name in self.columns[2:] if isinstance(value := values.get(name), float)}
        if self.rows:
            self.importance.append(self.rows)
        scalars |= {f"importance/{layer}/{moment}/{statistic}": v for _, layer, moment, statistic, v in self.rows}
        self.run.update_record(seconds=round(self.earlier_seconds + time.monotonic() - self.run_started, 1))
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)
