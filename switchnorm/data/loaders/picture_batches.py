"""Loaders over pictures in files, with one label each."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from switchnorm.data.augment.chain import Augment
from switchnorm.data.augment.normalization import Normalization
from switchnorm.data.loaders.file_batches import FileBatches, TrainingFileBatches
from switchnorm.data.loaders.loader import Batch
from switchnorm.data.loaders.picture_readers import (
    EvaluationPictureReader,
    PictureRequest,
    Pictures,
    TrainingPictureReader,
)
from switchnorm.data.loaders.share import Share
from switchnorm.data.views import with_mirrors


class PictureBatches(FileBatches[PictureRequest, Pictures]):
    """The loader for evaluation: normalized images, float32, and labels, int64 (N,); shares as `Loader`.

    Images are (N, 3, H, W), or (N, V, 3, H, W) where the reader's crops have several views. What cannot be read is left
    out, if the reader goes on at all.

    Args:
        reader: of the test pictures.
        normalization: on the share's device.
        batch_size, workers, share: as `FileBatches`.

    Raises:
        InputError: as `FileBatches`.
    """

    def __init__(
        self,
        reader: EvaluationPictureReader,
        normalization: Normalization,
        *,
        batch_size: int,
        workers: int | None,
        share: Share,
    ) -> None:
        super().__init__(reader, len(reader.paths), batch_size=batch_size, workers=workers, share=share)
        self._normalize = normalization
        self._one_view = reader.crops.views == "centre"

    def _request(self, samples: list[int]) -> PictureRequest:
        return PictureRequest(0, samples)

    def _finished(self, read: Pictures) -> Batch:
        images = self._normalize(read.images.to(self.share.device, non_blocking=True))
        labels = read.labels.to(self.share.device, non_blocking=True)
        return images[:, 0] if self._one_view else with_mirrors(images), labels


class TrainingPictureBatches(TrainingFileBatches[PictureRequest, Pictures]):
    """The loader for training: batches as `PictureBatches`, augmented; order, shares and state as `TrainingLoader`.

    How a sample is augmented is a function of (seed, pass, index of the sample), also where another takes its place.

    Args:
        reader: of the training pictures.
        normalization: on the share's device.
        finish: applied to the normalized images of every batch.
        batch_size, steps, workers, share: as `TrainingFileBatches`.

    Raises:
        InputError: as `TrainingFileBatches`.
    """

    def __init__(
        self,
        reader: TrainingPictureReader,
        normalization: Normalization,
        finish: Augment | None,
        *,
        batch_size: int,
        steps: int | None,
        workers: int | None,
        share: Share,
    ) -> None:
        total, seed = len(reader.paths), reader.seed
        super().__init__(reader, total, batch_size=batch_size, seed=seed, steps=steps, workers=workers, share=share)
        self._normalize = normalization
        self.finish = finish

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """As `Loader`."""
        return self._normalize.inverse(images)

    def _requests(self, position: int) -> Iterator[PictureRequest]:
        return (PictureRequest(pass_index, index.tolist()) for pass_index, index in self._indices(position))

    def _finished(self, read: Pictures) -> Batch:
        images = self._normalize(read.images.to(self.share.device, non_blocking=True))
        if self.finish is not None:
            index = torch.tensor(read.request.samples)  # on the CPU, where the numbers are drawn without waiting
            images = self.finish(images, self.seed, read.request.pass_index, index)
        return images, read.labels.to(self.share.device, non_blocking=True)
