"""Crops of single pictures, which are then batched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from torchvision.transforms import v2

from switchnorm.data.augment.crop_and_flip import flips
from switchnorm.data.augment.policy import make_policy, reproducible_torchvision
from switchnorm.data.counter import Stream, seeds
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.picture import Picture, by, pixelled, to_tensor
from switchnorm.data.resizing import centre_crop, short_side, to_array
from switchnorm.data.views import Views

PlainCrop = Literal["random", "centre"]


@dataclass(frozen=True)
class EvaluationCrops:
    """Evaluation's pictures: the shorter side resized, crops of the given side cut out.

    Args:
        size: side of the crops.
        resize: the shorter side before.
        views: "ten" cuts at the four corners and the centre; otherwise only the centre. Mirrors are not made here.
        interpolation: of resizing.
        channels: C, of the pictures.
    """

    size: int
    resize: int
    views: Views = "centre"
    interpolation: Interpolation = "bilinear"
    channels: int = 3

    @property
    def crops(self) -> int:
        """How many crops there are of a picture."""
        return 5 if self.views == "ten" else 1

    def __call__(self, picture: Picture) -> Tensor:
        """(crops, C, size, size) uint8."""
        if self.views == "ten":
            resized = torch.from_numpy(to_array(short_side(pixelled(picture), self.resize, self.interpolation)))
            return torch.stack(TF.five_crop(resized, [self.size]))
        return torch.from_numpy(to_array(centre_crop(pixelled(picture), self.resize, self.size, self.interpolation)))[
            None
        ]


def centre_crops(
    pictures: list[Picture], seed: int, pass_index: int, index: Tensor, *, crops: EvaluationCrops
) -> Tensor:
    """Training's pictures where nothing is random: (N, C, size, size) uint8."""
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
        plain_from: the first pass whose crops are plain; None for none.
        plain_crop: whether plain crops show a random place, or the centre.
        interpolation: of resizing.
        channels: C, of the pictures.
    """

    size: int
    resize: int
    min_area: float
    color_jitter: float
    rand_augment: int
    magnitude: int
    plain_from: int | None
    plain_crop: PlainCrop = "random"
    interpolation: Interpolation = "bilinear"
    channels: int = 3

    def __call__(self, pictures: list[Picture], seed: int, pass_index: int, index: Tensor) -> Tensor:
        """(N, C, size, size) uint8 of N pictures; (seed, pass, index (N,)) alone decide what becomes of them."""
        result = torch.empty(len(pictures), self.channels, self.size, self.size, dtype=torch.uint8)
        steps = [(seeds(seed, pass_index, index, stream), step) for stream, step in self._steps(pass_index)]
        mirrored = flips(seed, pass_index, index).tolist()
        with reproducible_torchvision() as set_seed:
            for place, picture in enumerate(pictures):
                for own_seeds, step in steps:
                    set_seed(own_seeds[place])
                    picture = step(picture)
                    if step is steps[0][1] and mirrored[place]:
                        picture = TF.horizontal_flip(picture)
                result[place] = to_tensor(picture)
        return result

    def _steps(self, pass_index: int) -> list[tuple[Stream, Callable[[Any], Any]]]:
        mode = by(self.interpolation, self.channels)
        crop: Callable[[Any], Any] = v2.RandomResizedCrop(self.size, scale=(self.min_area, 1.0), interpolation=mode)
        if self.plain_from is not None and pass_index >= self.plain_from:
            cut = v2.CenterCrop(self.size) if self.plain_crop == "centre" else v2.RandomCrop(self.size)
            crop = v2.Compose([v2.Resize(self.resize, mode), cut])
        steps: list[tuple[Stream, Callable[[Any], Any]]] = [(Stream.WINDOW, crop)]
        if self.color_jitter:
            strength = self.color_jitter
            steps.append((Stream.COLOR, v2.ColorJitter(strength, strength, strength)))
        if self.rand_augment:
            steps.append((Stream.POLICY, make_policy(self.rand_augment, self.magnitude)))
        return steps
