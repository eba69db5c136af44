"""Reading pictures and cutting them to size, one by one: what worker processes do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from switchnorm.data.augment import flips
from switchnorm.data.counter import Stream, words
from switchnorm.data.listing import Paths
from switchnorm.data.policy import make_policy, reproducible_torchvision
from switchnorm.data.reading import BatchReader, DamagedError, read_picture
from switchnorm.data.views import Views
from switchnorm.errors import InputError


@dataclass(frozen=True)
class EvaluationCrops:
    """Evaluation's pictures: the shorter side resized, crops of the given side cut out.

    Args:
        size: side of the crops.
        resize: the shorter side before.
        views: "ten" cuts at the four corners and the centre; otherwise only the centre. Mirrors are not made here.
    """

    size: int
    resize: int
    views: Views = "centre"

    @property
    def crops(self) -> int:
        """How many crops there are of a picture."""
        return 5 if self.views == "ten" else 1

    def __call__(self, picture: Image.Image) -> Tensor:
        """(crops, 3, size, size) uint8."""
        picture = TF.resize(picture, [self.resize])
        if self.views == "ten":
            return torch.stack([_to_tensor(crop) for crop in TF.five_crop(picture, [self.size])])
        return _to_tensor(TF.center_crop(picture, [self.size]))[None]


def centre_crops(
    pictures: list[Image.Image], seed: int, epoch: int, index: Tensor, *, crops: EvaluationCrops
) -> Tensor:
    """Training's pictures where nothing is random: (N, 3, size, size) uint8."""
    return torch.cat([crops(picture) for picture in pictures])


@dataclass(frozen=True)
class TrainingCrops:
    """Training's pictures: a random crop, perhaps mirrored, its colours changed, RandAugment. All on 8-bit pixels.

    Args:
        size: side of the crops.
        resize: the shorter side from which plain crops are cut.
        min_area: least share of the picture's area that a resized crop shows.
        color_jitter: how far brightness, contrast and saturation go from 1.
        rand_augment: number of operations.
        magnitude: their strength.
        plain_from: the first epoch whose crops are plain; None never.
    """

    size: int
    resize: int
    min_area: float
    color_jitter: float
    rand_augment: int
    magnitude: int
    plain_from: int | None

    def __call__(self, pictures: list[Image.Image], seed: int, epoch: int, index: Tensor) -> Tensor:
        """(N, 3, size, size) uint8 of N pictures; (seed, epoch, index (N,)) alone decide what becomes of them."""
        result = torch.empty(len(pictures), 3, self.size, self.size, dtype=torch.uint8)
        steps = [(words(seed, epoch, index, stream), step) for stream, step in self._steps(epoch)]
        mirrored = flips(seed, epoch, index).tolist()
        with reproducible_torchvision() as seeded:
            for place, picture in enumerate(pictures):
                for numbers, step in steps:
                    seeded(numbers[place])
                    picture = step(picture)
                    if step is steps[0][1] and mirrored[place]:
                        picture = TF.horizontal_flip(picture)
                result[place] = _to_tensor(picture)
        return result

    def _steps(self, epoch: int) -> list[tuple[Stream, Callable[[Any], Any]]]:
        plain = self.plain_from is not None and epoch >= self.plain_from
        window = v2.RandomResizedCrop(self.size, scale=(self.min_area, 1.0))
        crop = v2.Compose([v2.Resize(self.resize), v2.RandomCrop(self.size)]) if plain else window
        steps: list[tuple[Stream, Callable[[Any], Any]]] = [(Stream.WINDOW, crop)]
        if self.color_jitter:
            strength = self.color_jitter
            steps.append((Stream.COLOR, v2.ColorJitter(strength, strength, strength)))
        if self.rand_augment:
            steps.append((Stream.POLICY, make_policy(self.rand_augment, self.magnitude)))
        return steps


class Request(NamedTuple):
    """A batch to be read: the pass, and the places of the samples. No tensor, which would travel by shared memory."""

    turn: int
    samples: list[int]


class Pictures(NamedTuple):
    """A batch as read.

    Args:
        samples: as they were asked for.
        images: (n, 3, H, W) or (n, V, 3, H, W) uint8.
        labels: (n,) int64.
        damaged: the paths of what could not be read, each with the reason.
    """

    samples: list[int]
    images: Tensor
    labels: Tensor
    damaged: list[str]


@dataclass
class Reader(BatchReader[Request, Pictures]):
    """Reads batches.

    Args:
        paths: of all pictures.
        labels: (N,) int64 of all pictures.
        skip: whether to go on where a picture cannot be read.
    """

    paths: Paths
    labels: Tensor
    skip: bool

    def read(self, request: Request) -> Pictures:
        """The pictures asked for, and what of them cannot be read."""
        damaged: list[str] = []
        images, labels = self._batch(request, damaged)
        return Pictures(request.samples, images, labels, damaged)

    @abstractmethod
    def _batch(self, request: Request, damaged: list[str]) -> tuple[Tensor, Tensor]:
        """Images and labels; appends to `damaged`."""

    def _read(self, index: int, damaged: list[str]) -> Image.Image | None:
        try:
            return read_picture(self.paths[index])
        except DamagedError as error:
            if not self.skip:
                raise InputError(f"cannot read {error}; bring it, or set on_damaged to 'skip'") from error
            damaged.append(str(error))
            return None


@dataclass
class EvaluationReader(Reader):
    """Reads batches for evaluation; leaves out what cannot be read.

    Args:
        crops: what to cut.
    """

    crops: EvaluationCrops

    def _batch(self, request: Request, damaged: list[str]) -> tuple[Tensor, Tensor]:
        images, places = [], []
        for place in request.samples:
            picture = self._read(place, damaged)
            if picture is not None:
                images.append(self.crops(picture))
                places.append(place)
        none = torch.empty(0, self.crops.crops, 3, self.crops.size, self.crops.size, dtype=torch.uint8)
        return torch.stack(images) if images else none, self.labels[places]


@dataclass
class TrainingReader(Reader):
    """Reads batches for training; puts the next picture in the place of one that cannot be read.

    Args:
        crops: `crops(pictures, seed, epoch, index) -> images`: what to cut, and how to change it.
        seed: of the run.
    """

    crops: Callable[[list[Image.Image], int, int, Tensor], Tensor]
    seed: int

    def _batch(self, request: Request, damaged: list[str]) -> tuple[Tensor, Tensor]:
        pictures, places = [], []
        for index in request.samples:
            picture, place = self._readable(index, damaged)
            pictures.append(picture)
            places.append(place)
        return self.crops(pictures, self.seed, request.turn, torch.tensor(request.samples)), self.labels[places]

    def _readable(self, index: int, damaged: list[str]) -> tuple[Image.Image, int]:
        for step in range(len(self.paths)):
            place = (index + step) % len(self.paths)
            picture = self._read(place, damaged)
            if picture is not None:
                return picture, place
        raise InputError(f"none of the {len(self.paths)} training pictures in {self.paths.folder} can be read")


def _to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
