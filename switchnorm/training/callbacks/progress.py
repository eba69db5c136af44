"""Progress as a bar in a terminal, in plain lines elsewhere."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from switchnorm.config.task_spec import tasks
from switchnorm.runs.durations import clock


class ProgressBar(RichProgressBar):
    """Lightning's bar: rate, time left in the epoch, loss, accuracy.

    Args:
        seconds: between readings of the loss, each of which waits for the device.
    """

    def __init__(self, seconds: float = 0.5) -> None:
        super().__init__()
        self.seconds = seconds
        self._loss_read = -math.inf
        self._loss: dict[str, float] = {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What the bar shows, without the logger's version."""
        now = time.monotonic()
        if now - self._loss_read >= self.seconds and "loss" in trainer.callback_metrics:
            self._loss_read, self._loss = now, {"loss": float(trainer.callback_metrics["loss"])}
        metrics = {**self._loss, **super().get_metrics(trainer, pl_module)}
        return {name: value for name, value in metrics.items() if name != "v_num"}


class PlainProgress(pl.Callback):
    """Prints a line every so many seconds, and one after each epoch.

    Args:
        seconds: between lines inside an epoch.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.printed = time.monotonic()
        self.done_before = self._batches_done(trainer)
        self.images = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print, if it is time."""
        self.images += len(batch[1]) * trainer.world_size
        if time.monotonic() - self.printed >= self.seconds:
            self._print(trainer, f"step {batch_idx + 1}/{trainer.num_training_batches}", ("loss",))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch."""
        self._print(
            trainer,
            f"step {trainer.num_training_batches}/{trainer.num_training_batches}",
            ("loss", *dict.fromkeys(task.score.column for task in tasks().values())),
        )

    def _print(self, trainer: pl.Trainer, where: str, names: tuple[str, ...]) -> None:
        now = time.monotonic()
        self.printed = now
        elapsed = max(now - self.started, 1e-9)
        done = self._batches_done(trainer)
        total = (trainer.max_epochs or 1) * int(trainer.num_training_batches)
        left = elapsed / max(done - self.done_before, 1) * max(total - done, 0)
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", where]
        metrics = trainer.callback_metrics
        for name in names:
            if name in metrics:
                value = float(metrics[name])
                parts.append(f"{name} {value:.4f}" if "loss" in name else f"{name} {100 * value:.2f} %")
        parts += [f"{self.images / elapsed:.0f} images/s", f"{clock(left)} left"]
        if trainer.is_global_zero:
            print("  ".join(parts), flush=True)

    @staticmethod
    def _batches_done(trainer: pl.Trainer) -> int:
        return int(trainer.fit_loop.epoch_loop.total_batch_idx) + 1
