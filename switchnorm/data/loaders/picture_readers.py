"""Reading pictures for a batch: what worker processes do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from switchnorm.data.augment.picture_crops import EvaluationCrops
from switchnorm.data.files.listing import Paths
from switchnorm.data.files.picture_file import Pixels, read_picture
from switchnorm.data.loaders.damage import Damage
from switchnorm.data.loaders.reader import BatchReader
from switchnorm.data.picture import Picture


class PictureRequest(NamedTuple):
    """Pictures to be read: the pass over the data, and the places of the samples."""

    pass_index: int
    samples: list[int]


class Pictures(NamedTuple):
    """What was read of a request.

    Args:
        request: what was asked for.
        images: (n, C, H, W) or (n, V, C, H, W) uint8.
        labels: (n,) int64.
        damaged: the places of what could not be read, with path and reason.
    """

    request: PictureRequest
    images: Tensor
    labels: Tensor
    damaged: dict[int, str]


@dataclass
class PictureReader(BatchReader[PictureRequest, Pictures]):
    """Reads batches.

    Args:
        paths: of all pictures.
        labels: (N,) int64 of all pictures.
        skip: whether to go on where a picture cannot be read.
        pixels: what pictures become.
    """

    paths: Paths
    labels: Tensor
    skip: bool
    pixels: Pixels

    def read(self, request: PictureRequest) -> Pictures:
        """The pictures asked for, and what of them cannot be read."""
        damage = Damage(skip=self.skip)
        images, labels = self._batch(request, damage)
        return Pictures(request, images, labels, damage.found)

    @abstractmethod
    def _batch(self, request: PictureRequest, damage: Damage) -> tuple[Tensor, Tensor]:
        """Images and labels of what can be read."""

    def _picture(self, index: int) -> Picture:
        return read_picture(self.paths[index], self.pixels)


@dataclass
class EvaluationPictureReader(PictureReader):
    """Reads batches for evaluation; leaves out what cannot be read.

    Args:
        crops: what to cut.
    """

    crops: EvaluationCrops

    def _batch(self, request: PictureRequest, damage: Damage) -> tuple[Tensor, Tensor]:
        images, places = [], []
        for place in request.samples:
            picture = damage.read(self._picture, place)
            if picture is not None:
                images.append(self.crops(picture))
                places.append(place)
        none = torch.empty(
            0, self.crops.crops, self.pixels.channels, self.crops.size, self.crops.size, dtype=torch.uint8
        )
        return torch.stack(images) if images else none, self.labels[places]


@dataclass
class TrainingPictureReader(PictureReader):
    """Reads batches for training; puts the next picture in the place of one that cannot be read.

    Args:
        crops: `crops(pictures, seed, pass_index, index) -> images`: what to cut, and how to change it.
        seed: of the run.
    """

    crops: Callable[[list[Picture], int, int, Tensor], Tensor]
    seed: int

    def _batch(self, request: PictureRequest, damage: Damage) -> tuple[Tensor, Tensor]:
        pictures, places = [], []
        for index in request.samples:
            picture, place = damage.next_whole(self._picture, index, len(self.paths), self.paths.folder)
            pictures.append(picture)
            places.append(place)
        return self.crops(pictures, self.seed, request.pass_index, torch.tensor(request.samples)), self.labels[places]
