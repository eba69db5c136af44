"""What becomes of a folder's photographs on their way to the network, as its options say."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from switchnorm.data.augment.chain import Augment, chain
from switchnorm.data.augment.erasing import erase
from switchnorm.data.augment.lighting import COMPONENTS, PUBLISHED_COMPONENTS, PUBLISHED_DEVIATION, lighting
from switchnorm.data.augment.normalization import IMAGENET_STD, Normalization, color_normalization
from switchnorm.data.augment.picture_crops import EvaluationCrops, TrainingCrops, centre_crops
from switchnorm.data.picture import Picture
from switchnorm.data.views import Views

if TYPE_CHECKING:
    from switchnorm.data.datasets.folder import Folder


def evaluation_crops(folder: Folder, views: Views = "centre") -> EvaluationCrops:
    """What evaluation cuts out of a picture."""
    by = folder.interpolation or "bilinear"
    return EvaluationCrops(folder.size, folder.short_side, views, by, folder.channels)


def training_crops(
    folder: Folder, passes: int | None, color_jitter: float
) -> Callable[[list[Picture], int, int, Tensor], Tensor]:
    """What training cuts out of pictures, as `TrainingPictureReader` takes it.

    Args:
        folder: the dataset.
        passes: over the training pictures, of which the last are plain; None where nobody knows how many.
        color_jitter: the option; 0 for channels that are no colours.
    """
    if not folder.augment:
        return functools.partial(centre_crops, crops=evaluation_crops(folder))
    return TrainingCrops(
        folder.size,
        folder.short_side,
        folder.min_area,
        color_jitter,
        folder.rand_augment,
        folder.magnitude,
        None if passes is None else passes - folder.plain_epochs,
        folder.plain_crop,
        folder.interpolation or "bilinear",
        folder.channels,
    )


def normalization(folder: Folder, device: torch.device | str = "cpu") -> Normalization:
    """How pixels are normalized, on a device."""
    return color_normalization(folder.mean, folder.std, device, folder.channels)


def finish(folder: Folder) -> Augment | None:
    """What training does to normalized images."""
    if not folder.augment:
        return None
    if folder.lighting == "published":
        deviation, components = PUBLISHED_DEVIATION, PUBLISHED_COMPONENTS
    else:
        deviation, components = folder.lighting, COMPONENTS
    std = IMAGENET_STD if folder.std is None else tuple(folder.std)
    light = functools.partial(lighting, deviation=deviation, std=std, components=components)
    return chain(
        light if folder.lighting and folder.channels == 3 else None,
        functools.partial(erase, probability=folder.random_erasing) if folder.random_erasing else None,
    )
