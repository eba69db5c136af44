"""Loaders over datasets that fit in memory: the samples move to the device once, and batches are cut there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from switchnorm.data.augment.chain import Augment
from switchnorm.data.augment.normalization import Normalization
from switchnorm.data.loaders.loader import Batch, Loader, TrainingLoader
from switchnorm.data.loaders.share import Share
from switchnorm.data.views import Views, with_mirrors
from switchnorm.errors import InputError


@dataclass(frozen=True)
class Samples:
    """Labelled images in memory.

    Args:
        images: (N, C, H, W), uint8 or float32.
        labels: (N,) int64.
        mean: C numbers that normalization subtracts, in units of the images' values (0 to 255 for uint8 photographs).
        std: C numbers that it divides by.

    Raises:
        InputError: dtypes or sizes that do not fit together.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.images.dtype not in (torch.uint8, torch.float32):
            raise InputError(
                f"images must be (N, C, H, W), uint8 or float32, not {tuple(self.images.shape)} {self.images.dtype}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise InputError(
                f"labels must be ({len(self.images)},) int64 like the images, "
                f"not {tuple(self.labels.shape)} {self.labels.dtype}"
            )
        channels = self.images.shape[1]
        if not len(self.mean) == len(self.std) == channels:
            raise InputError(
                f"mean and std need one number per channel, {channels}, not {len(self.mean)} and {len(self.std)}"
            )

    def __len__(self) -> int:
        return len(self.labels)


class Batches(Loader):
    """The loader for evaluation: normalized images, float32 (N, C, H, W), and labels, int64 (N,); shares as `Loader`.

    Args:
        samples: the images and labels.
        batch_size: samples per batch, all processes together; the last batch may hold fewer.
        share: what of each batch this process gets, and where the samples are kept and the batches made.
        views: "centre", the images themselves; or "flip", each image and its mirror, (N, 2, C, H, W).

    Raises:
        InputError: fewer samples per batch than processes, or no such view.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        share: Share = Share(),
        views: Views = "centre",
    ) -> None:
        super().__init__(len(samples), batch_size=batch_size, share=share)
        if views not in ("centre", "flip"):
            raise InputError(f"views {views!r} is not possible here; images in memory have 'centre' and 'flip'")
        self.views = views
        self.images = samples.images.to(share.device)
        self.labels = samples.labels.to(share.device)
        self._normalize = Normalization(samples.mean, samples.std, share.device)

    def __iter__(self) -> Iterator[Batch]:
        for position in range(len(self)):
            places = self.places(position)
            images = self._normalize(self.images[places])
            yield with_mirrors(images[:, None]) if self.views == "flip" else images, self.labels[places]


class TrainingBatches(TrainingLoader):
    """The loader for training: batches as `Batches`, augmented; order, shares and state as `TrainingLoader`.

    How a sample is augmented is a function of (seed, pass, index of the sample).

    Args:
        samples: the images and labels.
        batch_size: samples per batch, all processes together; samples that fill no batch wait for another pass.
        seed: determines order and augmentation.
        steps: batches of an epoch; None is one pass.
        augment: applied to the pixels of every batch; none leaves them as they are.
        finish: applied to the normalized images of every batch.
        share: what of each batch this process gets, and where the samples are kept and the batches made.

    Raises:
        InputError: fewer samples than a batch holds, a batch that the processes cannot share evenly, or no steps.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        seed: int,
        steps: int | None = None,
        augment: Augment | None = None,
        finish: Augment | None = None,
        share: Share = Share(),
    ) -> None:
        super().__init__(len(samples), batch_size=batch_size, seed=seed, steps=steps, share=share)
        self.augment = augment
        self.finish = finish
        self.images = samples.images.to(share.device)
        self.labels = samples.labels.to(share.device)
        self._normalize = Normalization(samples.mean, samples.std, share.device)

    def pixels(self, images: Tensor) -> Tensor:
        """As `Loader`."""
        return self._normalize.inverse(images)

    def _batches(self, position: int) -> Iterator[Batch]:
        for pass_index, index in self._indices(position, self.labels.device):
            images = self.images.index_select(0, index)
            if self.augment is not None:
                images = self.augment(images, self.seed, pass_index, index)
            images = self._normalize(images)
            if self.finish is not None:
                images = self.finish(images, self.seed, pass_index, index)
            yield images, self.labels[index]
