"""Noticing that a training diverges: numbers that are not finite, and what is done about them."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.surgery.statistics import running_statistics
from switchnorm.tasks.task import Task
from switchnorm.training.callbacks.agreement import Agreement
from switchnorm.training.first_layer import bad_batch, bad_gradients, first_layer, magnitude
from switchnorm.training.optimizer import current_lr
from switchnorm.training.words import LOSS_NOT_FINITE
from switchnorm.weights.checkpoint import TRAINED

#: So many steps in a row that are left out, by us or by the loss scaler of precision 16, are a divergence. That scaler
#: begins at 2**16 and is halved by each.
IN_A_ROW = 20


class DivergedError(InputError):
    """A training whose loss, gradients, weights or running statistics are not finite."""


class Divergence(pl.Callback):
    """Ends a run, or leaves out a step, where loss, gradients or running statistics are not finite.

    Each step's are summed up in one number before the optimizer takes it. On CUDA that number is looked at once it has
    arrived, a step or a few later, so that nothing waits for the device; "skip" has to wait in every step. What a
    validation or a checkpoint is about to keep is always looked at first, weights included.

    With "skip" a step leaves weights, optimizer, running statistics, the average of weights and the epoch's means as
    they were; learning rate and radius go on with the schedule. With precision 16 the loss scaler leaves out steps by
    itself, which is normal but for many in a row.

    Args:
        run: whose record says that it diverged.
        policy: "stop" or "skip".
        agreement: between the processes.

    Attributes:
        noticed: whether the run has to end; `end` does, in all processes at the same place.
        left_out: how many steps of the run were left out.
    """

    def __init__(self, run: RunFolder, policy: Literal["stop", "skip"], agreement: Agreement) -> None:
        self.run = run
        self.policy = policy
        self.agreement = agreement
        self.noticed = False
        self.left_out = 0
        self._in_epoch = 0
        self._in_a_row = 0
        self._step: dict[str, Any] = {}  # the place of the last one
        self._place: dict[str, Any] = {}
        self._gradients: list[str] = []
        self._losses: list[Tensor] = []
        self._statistics: list[Tensor] = []
        self._batch: Any = None
        self._before = _Before()
        self._arriving = _Arriving()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the running statistics once: searching all modules in every step would be slow."""
        assert isinstance(pl_module, Task)
        self._statistics = list(running_statistics(pl_module.model).values())

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep what a step that is left out shall not change."""
        assert isinstance(pl_module, Task)
        self._batch, pl_module.left_out = batch, False
        if self.policy == "skip" and batch_idx % trainer.accumulate_grad_batches == 0:
            self._before.keep(pl_module)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        self._losses.append(loss.detach())

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Sum up the step, and leave it out where it is not finite and that is known."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        losses, self._losses = self._losses, []
        total, place = magnitude([*gradients, *self._statistics, *losses]), self._here(trainer)
        self._step = place
        if total.device.type == "cuda" and self.policy == "stop":
            self._arriving.add(total, place)
            return
        bad = not total.isfinite()
        if self.policy == "skip":
            bad = bool(self.agreement.largest(bad))
        self._count(trainer, bad, place)
        if not bad:
            return
        if self.noticed:
            self._gradients = bad_gradients(pl_module)
        if self.policy == "skip":
            assert isinstance(pl_module, Task)
            self._before.restore(pl_module)
            pl_module.left_out = True
            self.left_out, self._in_epoch = self.left_out + 1, self._in_epoch + 1
        if self.policy == "skip" or self.noticed:
            optimizer.zero_grad(set_to_none=True)  # an optimizer passes over parameters without a gradient

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Look at what has arrived from the device; `Interruption` asks for `noticed` then."""
        for total, place in self._arriving.take(wait=False):
            self._count(trainer, not total.isfinite(), place)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at all that is to be evaluated, and kept by its score."""
        self._check(trainer, pl_module, pl_module.state_dict().values())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where finite weights give pictures a loss that is not: by its test data, or for a while."""
        loss = trainer.callback_metrics.get("val_loss")
        if loss is not None and not loss.isfinite() and trainer.is_global_zero:
            warnings.warn(f"epoch {trainer.current_epoch + 1}: {LOSS_NOT_FINITE}", stacklevel=1)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look at all that is to be kept: it must not take the place of a good checkpoint."""
        states = (checkpoint.get(name, {}) for name in ("state_dict", TRAINED))
        self._check(trainer, pl_module, (value for state in states for value in state.values()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how many steps were left out."""
        if self._in_epoch and trainer.is_global_zero:
            steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
            warnings.warn(
                f"{self._in_epoch} of {steps} steps of epoch {trainer.current_epoch + 1} were left out: loss, "
                "gradients or running statistics were not finite",
                stacklevel=1,  # what Lightning's modules would warn of is not shown
            )
        self._in_epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"left_out": self.left_out, "in_epoch": self._in_epoch, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self.left_out, self._in_epoch, self._in_a_row = (state_dict[k] for k in ("left_out", "in_epoch", "in_a_row"))

    def end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record and raise that the run has diverged; every process must call.

        Raises:
            DivergedError: always.
        """
        assert isinstance(pl_module, Task)
        # Agreed on before any layer is called: those that share statistics wait for the other processes.
        if self.agreement.largest(bad_batch(self._batch)):
            what = "the batch of pictures"
        else:
            context = trainer.precision_plugin.forward_context
            what = self.agreement.first(first_layer(pl_module, self._batch, context, self._gradients)) or "the loss"
        place = self._place or self._step or self._here(trainer)
        if trainer.is_global_zero:
            self.run.update_record(status="diverged", diverged={**place, "first": what})
        kept = f"{self.run.last} is from before" if self.run.last.is_file() else "no checkpoint had been written"
        raise DivergedError(
            f"training diverged in epoch {place['epoch']}, step {place['step']} of {place['steps']}, at learning rate "
            f"{place['learning_rate']:g}: {what} is not finite first; {kept}; start a new run with a lower "
            "--optimizer.lr, a longer --schedule.warmup_epochs or warmup_steps, or an --optimizer.clip_norm, or leave "
            "out single steps with --train.on_divergence skip"
        )

    def _count(self, trainer: pl.Trainer, bad: bool, place: dict[str, Any]) -> None:
        self._in_a_row = self._in_a_row + 1 if bad else 0
        normal = self.policy == "skip" or getattr(trainer.precision_plugin, "scaler", None) is not None
        if bad and not self.noticed and (not normal or self._in_a_row >= IN_A_ROW):
            self.noticed, self._place = True, place

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule, state: Iterable[Tensor]) -> None:
        for total, place in self._arriving.take(wait=True):
            self._count(trainer, not total.isfinite(), place)
        if self.agreement.largest(self.noticed or not magnitude(state).isfinite()):
            self.end(trainer, pl_module)

    @staticmethod
    def _here(trainer: pl.Trainer) -> dict[str, Any]:
        return {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.fit_loop.epoch_loop.batch_idx + 1,
            "steps": trainer.num_training_batches,
            "learning_rate": current_lr(trainer.optimizers[0]),
        }


class _Before:
    """What a step changes beside the weights, as it was before."""

    def __init__(self) -> None:
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._sums: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def keep(self, task: Task) -> None:
        """Copy the network's buffers and the epoch's sums."""
        if not self._buffers:
            self._buffers = [(buffer, torch.empty_like(buffer)) for buffer in task.model.buffers()]
        for buffer, kept in self._buffers:
            kept.copy_(buffer)
        self._sums = [{name: each.clone() for name, each in mean.sums.items()} for mean in task.training_means]

    @torch.no_grad()
    def restore(self, task: Task) -> None:
        """Put them back."""
        for buffer, kept in self._buffers:
            buffer.copy_(kept)
        for mean, sums in zip(task.training_means, self._sums, strict=True):
            mean.restore(sums)


class _Arriving:
    """Numbers on their way from a CUDA device, each with the place where it was computed."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Tensor, dict[str, Any], Any]] = deque()

    def add(self, number: Tensor, place: dict[str, Any]) -> None:
        """Send a number, (), on its way."""
        there = torch.empty_like(number, device="cpu", pin_memory=True)
        there.copy_(number, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting.append((there, place, event))

    def take(self, wait: bool) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Those that have arrived, in order; all of them after waiting."""
        while self._waiting and (wait or self._waiting[0][2].query()):
            number, place, event = self._waiting.popleft()
            if wait:
                event.synchronize()
            yield number, place
