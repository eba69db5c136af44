"""Progress: a line for each finished epoch, and below these, in a terminal, what goes on now."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl

from switchnorm.runs.durations import clock
from switchnorm.screen import Parts, StatusLine, fitted, is_screen, make_console
from switchnorm.surgery.importance import sparse_layers
from switchnorm.tasks.task import Task


class Progress(pl.Callback):
    """Prints a line for each epoch, and shows steps, time left and loss meanwhile, of training as of an evaluation.

    In a terminal lines are as wide as it is and the last one is drawn anew; elsewhere they come every so many seconds.

    Args:
        score: the column of the metric that is shown.
        redraw: seconds between drawings in a terminal; each reads the loss, which waits for the device.
        seconds: between lines inside an epoch elsewhere.
    """

    def __init__(self, score: str, redraw: float = 0.5, seconds: float = 30.0) -> None:
        self.score = score
        self.console = make_console()
        self.line = StatusLine(self.console) if is_screen(self.console) else None
        self.seconds = seconds if self.line is None else redraw
        self.started = self.shown = 0.0
        self.done_before = 0
        self.images, self.epoch_started, self.epoch_seconds = 0, 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.epoch_started = time.monotonic()
        self.done_before = _batches_done(trainer)
        self._begin(trainer, [*_epoch(trainer), (1, "starting")])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
        self.images, self.epoch_started = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where training stands, if it is time."""
        self.images += len(batch[1]) * trainer.world_size
        self.epoch_seconds = time.monotonic() - self.epoch_started
        if self._is_time():
            done, total = batch_idx + 1, int(trainer.num_training_batches)
            loss = trainer.callback_metrics.get("loss")
            losses = [] if loss is None else [(3, f"loss {_loss(float(loss))}")]
            rates = [(4, self._rate()), (2, self._left(trainer))]
            self._show(trainer, [*_epoch(trainer), (1, f"step {done}/{total}"), *losses, *rates], done / total)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an evaluation that is no part of a training."""
        if not _is_training(trainer):
            self.started = time.monotonic()
            self._begin(trainer, [(0, "evaluation")])

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say where the evaluation stands, if it is time."""
        if not self._is_time():
            return
        done, total = batch_idx + 1, int(sum(trainer.num_val_batches))
        if _is_training(trainer):
            parts = [*_epoch(trainer), (1, f"validation {done}/{total}")]
        else:
            left = (time.monotonic() - self.started) / done * (total - done)
            parts = [(0, f"evaluation {done}/{total}"), (1, f"{clock(left)} left")]
        self._show(trainer, parts, done / total)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear the line of an evaluation that is no part of a training."""
        if not _is_training(trainer):
            self._stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's line, with the numbers of its row in metrics.csv."""
        assert isinstance(pl_module, Task)
        sparse = sparse_layers(pl_module)
        if not trainer.is_global_zero:
            return
        found = {name: float(value) for name, value in trainer.callback_metrics.items()} | pl_module.trained
        parts = _epoch(trainer)
        for rank, name, column in ((2, "loss", "train_loss"), (3, "val_loss", "val_loss")):
            parts += [(rank, f"{name} {_loss(found[column])}")] if column in found else []
        parts += [(1, f"{self.score} {100 * found[self.score]:.2f} %")] if self.score in found else []
        parts += [(6, f"radius {float(sparse[0].radius):.2f}")] if sparse else []
        parts += [(5, self._rate()), (4, self._left(trainer))]
        self.console.print(fitted(parts, None if self.line is None else self.console.width), **_PLAIN)
        self.shown = time.monotonic()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave a clean screen, whatever ended the training."""
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the line off the screen."""
        self._stop()

    def _begin(self, trainer: pl.Trainer, parts: Parts) -> None:
        """Show the line at once; elsewhere the first one comes in its time."""
        self.shown = time.monotonic()
        if self.line is not None:
            self._show(trainer, parts, 0.0)

    def _is_time(self) -> bool:
        return time.monotonic() - self.shown >= self.seconds

    def _show(self, trainer: pl.Trainer, parts: Parts, done: float) -> None:
        self.shown = time.monotonic()
        if not trainer.is_global_zero:
            return
        if self.line is None:
            self.console.print(fitted(parts, None), **_PLAIN)
        else:
            self.line.show(parts, done)

    def _stop(self) -> None:
        if self.line is not None:
            self.line.stop()

    def _rate(self) -> str:
        rate = self.images / max(self.epoch_seconds, 1e-9)
        return f"{rate:.{0 if rate >= 10 else 1}f} images/s"  # of pictures that take their time

    def _left(self, trainer: pl.Trainer) -> str:
        done = _batches_done(trainer)
        total = (trainer.max_epochs or 1) * int(trainer.num_training_batches)
        elapsed = time.monotonic() - self.started
        return f"{clock(elapsed / max(done - self.done_before, 1) * max(total - done, 0))} left"


#: Text as it is: brackets are no markup, and what does not fit is not broken.
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def _epoch(trainer: pl.Trainer) -> list[tuple[int, str]]:
    """Where in the run this is; Lightning counts epochs from 0."""
    return [(0, f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")]


def _is_training(trainer: pl.Trainer) -> bool:
    return trainer.state.fn == "fit"


def _loss(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:.3g}"


def _batches_done(trainer: pl.Trainer) -> int:
    return int(trainer.fit_loop.epoch_loop.total_batch_idx) + 1
