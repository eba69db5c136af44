"""Datasets as batches of tensors, by name. The constructor of each is the schema of its options."""

from __future__ import annotations

from typing import Any

from switchnorm.data.augment import Augment
from switchnorm.data.batches import Batches, Samples, TrainingBatches
from switchnorm.data.cifar import Cifar10, Cifar100
from switchnorm.data.dataset import Dataset
from switchnorm.data.digits import Digits
from switchnorm.data.folder import Folder
from switchnorm.data.imagenet import ImageNet
from switchnorm.data.loader import Loader, TrainingLoader
from switchnorm.data.memory import InMemory
from switchnorm.data.segmentation import Ade20k, CamVid, Cityscapes, Masks, SegmentationDataset
from switchnorm.data.views import Views
from switchnorm.errors import unknown

__all__ = [
    "DATASETS",
    "Ade20k",
    "Augment",
    "Batches",
    "CamVid",
    "Cifar10",
    "Cifar100",
    "Cityscapes",
    "Dataset",
    "Digits",
    "Folder",
    "ImageNet",
    "InMemory",
    "Loader",
    "Masks",
    "Samples",
    "SegmentationDataset",
    "TrainingBatches",
    "TrainingLoader",
    "Views",
    "create_dataset",
]

#: Every dataset by name.
DATASETS: dict[str, type[Dataset]] = {
    "digits": Digits,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "imagenet": ImageNet,
    "folder": Folder,
    "ade20k": Ade20k,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "masks": Masks,
}


def create_dataset(name: str, **options: Any) -> Dataset:
    """The dataset of that name; nothing is read yet.

    Args:
        name: a key of `DATASETS`.
        **options: what the dataset's constructor takes.

    Raises:
        InputError: no dataset has that name.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    return DATASETS[name](**options)
