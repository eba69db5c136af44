"""Checkpoint files that stay whole when the process is killed, and the callbacks that write them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from switchnorm.errors import InputError
from switchnorm.files import write_files
from switchnorm.runs.folder import RunFolder
from switchnorm.weights.checkpoint import CheckpointFile, as_checkpoint
from switchnorm.weights.checksum import write_with_checksum
from switchnorm.weights.formats import read_content


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a temporary file, syncs it and renames it into place; reads without running code from the file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, which holds the old content or the new at any moment; keep the last one."""
        path = Path(path)
        run = RunFolder(path.parent.parent)
        keep = {path: run.previous} if path.name == run.last.name else {}
        write_files({path: functools.partial(_save, checkpoint)}, keep=keep)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint onto the CPU."""
        checkpoint: dict[str, Any] = read_content(Path(path)).value
        return checkpoint


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    # Given a name, torch would write it into the file.
    write_with_checksum(path, lambda file: torch.save(checkpoint, file))


#: What the state of a training is made of, where continuing it reads it.
_ENTRIES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("epoch", "global_step", "counted"), (int,)),
    **dict.fromkeys(("optimizer_states", "lr_schedulers", "training_metrics"), (list,)),
    **dict.fromkeys(("callbacks", "settings", "computed", "Loaders"), (dict,)),
    "loops": (dict, type(None)),
}


@dataclass(frozen=True)
class Resumable:
    """A checkpoint that a training goes on from.

    Attributes:
        path: of the file.
        entries: all that it holds.
        file: the network in them.
    """

    path: Path
    entries: dict[str, Any]
    file: CheckpointFile


def read_resumable(path: Path) -> Resumable:
    """Read a checkpoint that a training goes on from.

    Raises:
        InputError: it is damaged, or not the state of a training.
    """
    content = read_content(path)
    file, entries = as_checkpoint(content, path), content.value
    parts = {"loops", "optimizer_states", "lr_schedulers", "training_metrics"}
    if not isinstance(entries, dict) or not parts <= entries.keys():
        raise InputError(f"checkpoint {str(path)!r} holds weights alone; expected the state of an interrupted training")
    for name, kinds in _ENTRIES.items():
        if name in entries and not isinstance(entries[name], kinds):
            kind = type(entries[name]).__name__
            raise InputError(f"checkpoint {str(path)!r} is damaged: {name} is of type {kind}, which no training writes")
    return Resumable(path, entries, file)


class BestCheckpoint(ModelCheckpoint):
    """Writes best.ckpt by a score, also in a run folder that was moved since it was interrupted.

    Args:
        folder: of the checkpoint.
        score: the metric, of which more is better.
    """

    def __init__(self, folder: Path, score: str) -> None:
        super().__init__(
            folder,
            "best",
            monitor=score,
            mode="max",
            enable_version_counter=False,
            save_weights_only=True,
            save_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score: in a moved folder Lightning would drop it, and replace best.ckpt with a worse one."""

        def here(path: str) -> str:
            return os.path.join(str(self.dirpath), os.path.basename(path)) if path else path

        moved: dict[str, Any] = {
            key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        moved["best_k_models"] = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "dirpath": self.dirpath})


class MidEpochCheckpoint(ModelCheckpoint):
    """Writes last.ckpt every so many minutes inside an epoch.

    Not after the epoch's last batch: resumed from there, Lightning would leave out the validation that follows. Nor
    between the batches of one optimizer step, whose gradients no checkpoint holds.

    Args:
        folder: of the checkpoint.
        minutes: between checkpoints.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        super().__init__(folder, "last", train_time_interval=timedelta(minutes=minutes), enable_version_counter=False)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Write, if it is time and the epoch goes on."""
        if not trainer.is_last_batch and not trainer.fit_loop._should_accumulate():
            super().on_train_batch_end(trainer, *args)


class Snapshots(pl.Callback):
    """Keeps the evaluated weights for good every so many epochs.

    Args:
        run: whose.
        epochs: between snapshots.
    """

    def __init__(self, run: RunFolder, epochs: int) -> None:
        self.run = run
        self.epochs = epochs

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, while the network holds the weights that were evaluated."""
        done = trainer.current_epoch + 1
        if done % self.epochs == 0:
            trainer.save_checkpoint(self.run.snapshot(done), weights_only=True)
