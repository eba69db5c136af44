"""A dataset's batches for the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, repeat
from typing import Any

import pytorch_lightning as pl

from switchnorm.config.schema import Config
from switchnorm.data import Dataset, Loader, Share, TrainingLoader, Views
from switchnorm.data.loaders.loader import Batch
from switchnorm.errors import InputError
from switchnorm.training.build import training_batches


class Loaders(pl.LightningDataModule):
    """Hands a dataset's batches to the trainer, on its device and in its share.

    Saves the training loader's state in checkpoints. Lightning does so too, but restores it only inside an epoch.

    Args:
        dataset: the dataset.
        config: of the run.
        views: of each test picture.
        limit: how many test pictures, the first; None for all.
    """

    def __init__(self, dataset: Dataset, config: Config, views: Views = "centre", limit: int | None = None) -> None:
        super().__init__()
        self.dataset = dataset
        self.config = config
        self.views: Views = views
        self.limit = limit
        self._restored: dict[str, int] | None = None
        self._training: TrainingLoader | None = None

    def train_dataloader(self) -> TrainingLoader:
        """The training batches, continued from a checkpoint if one was loaded; else from the run's first epoch on."""
        self._training = training_batches(self.config, self.dataset, self._share())
        self._training.load_state_dict(self._restored or {"epoch": self.config.train.start_epoch, "position": 0})
        return self._training

    def calibration_batches(self, count: int) -> Iterator[Batch]:
        """The run's first `count` training batches, from a loader of their own: training's stays where it is."""
        loader = training_batches(self.config, self.dataset, self._share())
        return islice(chain.from_iterable(repeat(loader)), count)

    def state_dict(self) -> dict[str, Any]:
        """The training loader's epoch and position."""
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state for the loader, which is made later."""
        self._restored = state_dict

    def val_dataloader(self) -> Any:
        """The test batches."""
        batch_size = self.config.train.test_batch
        batches = self.dataset.test_batches(batch_size=batch_size, views=self.views, share=self._share())
        if self.limit is not None:
            if not isinstance(batches, Loader):
                raise InputError(
                    f"{type(batches).__name__} cannot give the first {self.limit} pictures alone; derive it from "
                    "switchnorm.data.Loader"
                )
            batches.first(self.limit)
        return batches

    def _share(self) -> Share:
        assert self.trainer is not None
        return Share(self.trainer.global_rank, self.trainer.world_size, self.trainer.strategy.root_device)
