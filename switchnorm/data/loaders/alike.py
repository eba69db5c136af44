"""Loaders whose batches hold upright pictures or wide ones, so that one size holds them with little to spare."""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor

from switchnorm.data.counter import Stream, permutation
from switchnorm.data.loaders.file_batches import TrainingFileBatches
from switchnorm.data.loaders.reader import BatchReader, ReadT, RequestT
from switchnorm.data.loaders.share import Share


class AlikeFileBatches(TrainingFileBatches[RequestT, ReadT], Generic[RequestT, ReadT]):
    """A loader for training whose batches hold upright pictures or wide ones.

    Each pass chooses at random which pictures fill no batch and wait; of the rest at most one batch is mixed, of what
    is left of both kinds.

    Args:
        reader: of the training files.
        originals: (N, 2) int64, height and width of every picture.
        batch_size, seed, steps, workers, share: as `TrainingFileBatches`.

    Raises:
        InputError: as `TrainingFileBatches`.
    """

    def __init__(
        self,
        reader: BatchReader[RequestT, ReadT],
        originals: Tensor,
        *,
        batch_size: int,
        seed: int,
        steps: int | None,
        workers: int | None,
        share: Share,
    ) -> None:
        super().__init__(
            reader, len(originals), batch_size=batch_size, seed=seed, steps=steps, workers=workers, share=share
        )
        self.originals = originals
        self._upright = originals[:, 0] > originals[:, 1]

    def _order(self, pass_index: int, device: torch.device | str) -> Tensor:
        order = super()._order(pass_index, device)[: self.batches_per_pass * self.batch_size]
        upright = self._upright.to(device)[order]
        batches = torch.cat([order[upright], order[~upright]]).view(self.batches_per_pass, self.batch_size)
        return batches[permutation(self.seed, pass_index, len(batches), device, stream=Stream.BATCH_ORDER)].flatten()
