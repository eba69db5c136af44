"""Ending a run whose score has stopped rising."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Ends a run after so many validations without a better score; the last of them is its result.

    Args:
        score: the metric, of which more is better.
        patience: how many.
    """

    def __init__(self, score: str, patience: int) -> None:
        # A score that is no number is none that is better.
        super().__init__(score, patience=patience, mode="max", check_finite=False, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once where the run was killed after its last epoch: Lightning would train one more."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def record(self, rows: Sequence[Mapping[str, str]], epochs: int) -> dict[str, Any] | None:
        """How the run was ended, for run.json; None where it came to its last epoch.

        Args:
            rows: of metrics.csv.
            epochs: that the run was meant to have.
        """
        done, radius = int(rows[-1]["epoch"]), rows[-1]["radius"]
        if done == epochs:
            return None
        return {"after_epochs": done, "patience": self.patience, "radius": float(radius) if radius else None}
