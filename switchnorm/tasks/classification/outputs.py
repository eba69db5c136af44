"""What `switchnorm eval` writes about classification: the logits of every picture."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from switchnorm.data import Dataset
from switchnorm.data.loaders.loader import Loader
from switchnorm.errors import InputError
from switchnorm.files import write_files
from switchnorm.tasks.output import Output, of_all_processes


class SavedLogits(Output):
    """An .npz file with a row per test picture, in the order of the test set.

    logits (N, K) float32: what the network gives; of several views the logarithm of their mean probability.
    labels (N,) int64. names (N,) and classes (K,): text.

    Args:
        path: the file; other arrays of numpy's are replaced.
        dataset: what is evaluated.

    Raises:
        InputError: a file that holds something else.
    """

    def __init__(self, path: Path, dataset: Dataset) -> None:
        if path.exists() and not zipfile.is_zipfile(path):
            raise InputError(f"--save {str(path)!r} holds something else already; choose another file")
        self.path = path
        self.dataset = dataset
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the logits of a batch."""
        if outputs is not None:
            self._rows.append((_places(trainer.val_dataloaders, batch_idx), outputs.float().cpu(), batch[1].cpu()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather what all processes have."""
        self._rows = [row for each in of_all_processes(trainer, self._rows) for row in each]

    def write(self) -> str:
        """As `Output`."""
        places, logits, labels = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        order = places.argsort()
        arrays = {
            "logits": logits[order].numpy(),
            "labels": labels[order].numpy(),
            "names": np.array([self.dataset.test_name(index) for index in places[order].tolist()]),
            "classes": np.array(self.dataset.classes),
        }
        write_files({self.path: functools.partial(_save, arrays)})
        return (
            f"{self.path}: logits, labels and names of {len(labels)} test pictures, and the {logits.shape[1]} classes"
        )


def _places(loader: Any, batch: int) -> Tensor:
    """The test pictures that were in a batch of this process, (n,) int64: all of its share but the damaged ones."""
    if not isinstance(loader, Loader):
        raise InputError(
            f"--save needs the places of the pictures, which {type(loader).__name__} does not tell; derive it from "
            "switchnorm.data.loaders.loader.Loader"
        )
    share, left_out = loader.places(batch), set(loader.left_out)
    return torch.tensor([place for place in range(share.start, share.stop) if place not in left_out], dtype=torch.int64)


def _save(arrays: dict[str, np.ndarray[Any, Any]], path: Path) -> None:
    with path.open("wb") as file:  # given a name, numpy would append .npz to it
        np.savez(file, allow_pickle=False, **arrays)
