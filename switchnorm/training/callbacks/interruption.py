"""Ending a run that a signal interrupts: saved where all is whole, with the command that continues it."""

from __future__ import annotations

import shlex
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from switchnorm.processes import is_launched, local_world_size, world_size
from switchnorm.runs.folder import RunFolder
from switchnorm.signals import Ending, Interrupted
from switchnorm.training.callbacks.agreement import Agreement
from switchnorm.training.callbacks.divergence import Divergence

#: Larger than the number of any signal.
_DIVERGED = 1000

_VALIDATION = "epoch_loop.val_loop.batch_progress"


class Interruption(Checkpoint):
    """Saves and raises `Interrupted` at the first place after a signal from which a resumed run goes on bit for bit.

    These are the end of an optimizer step, the start of each batch of validation, and the end of an epoch. All
    processes end at the same one, whichever of them got the signal; that a run has diverged is agreed on in the same
    message.

    It is a `Checkpoint` so that Lightning calls it after the others of them: what they keep of a step or an epoch has
    been written by then.

    Args:
        run: whose.
        ending: hears the signals.
        agreement: between the processes.
        divergence: what has noticed numbers that are not finite.
    """

    def __init__(self, run: RunFolder, ending: Ending, agreement: Agreement, divergence: Divergence) -> None:
        self.run = run
        self.ending = ending
        self.agreement = agreement
        self.divergence = divergence

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """From here on there is something to save."""
        self.ending.wait()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a step; after an epoch's last one validation follows first, see `MidEpochCheckpoint`."""
        if trainer.fit_loop._should_accumulate():
            return
        found = self.agreement.largest(_DIVERGED if self.divergence.noticed else self.ending.received)
        if found == _DIVERGED:
            self.divergence.end(trainer, pl_module)
        if found and not trainer.is_last_batch:
            self._save(trainer, found, f", step {batch_idx + 1} of {trainer.num_training_batches}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run may be resumed here."""
        self.ending.wait()

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Within validation, which a resumed run begins again."""
        if found := self.agreement.largest(self.ending.received):
            self._save(trainer, found, ", before its validation")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After an epoch, whose checkpoint has been written; the last one lets the run finish."""
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if not last and (found := self.agreement.largest(self.ending.received)):
            raise Interrupted(found, self._said(trainer, f" of {trainer.max_epochs}"))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have a checkpoint that is written within validation say that this has been begun, and no batch be done.

        Lightning's own counters would let a resumed run leave out the batches that were done, or the whole validation.
        """
        if trainer.validating:
            done = checkpoint["loops"]["fit_loop"][_VALIDATION]
            before = done["total"]["completed"] - done["current"]["completed"]
            for name, count in (("total", before), ("current", 0)):
                done[name] = {"ready": count + 1, "started": count + 1, "processed": count, "completed": count}

    def _save(self, trainer: pl.Trainer, number: int, where: str) -> None:
        trainer.save_checkpoint(self.run.last)
        raise Interrupted(number, self._said(trainer, where))

    def _said(self, trainer: pl.Trainer, where: str) -> str:
        return f"saved after epoch {trainer.current_epoch + 1}{where}; continue with `{resuming(self.run)}`"


def resuming(run: RunFolder) -> str:
    """The command that continues a run, as it was started."""
    command = f"switchnorm train --resume {shlex.quote(str(run.path))}"
    if not is_launched():
        return command
    nodes = world_size() // local_world_size()
    several = f"--nnodes {nodes} " if nodes > 1 else ""
    return f"torchrun {several}--nproc-per-node {local_world_size()} -m {command}"
