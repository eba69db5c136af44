"""Datasets as batches of tensors, by name. The constructor of each is the schema of its options."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from switchnorm.data.datasets.cifar import Cifar10, Cifar100
from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.datasets.digits import Digits
from switchnorm.data.datasets.folder import Folder
from switchnorm.data.datasets.imagenet import ImageNet
from switchnorm.data.datasets.memory import InMemory
from switchnorm.data.detection import Coco, DetectionDataset, Voc, Yolo
from switchnorm.data.loaders.share import Share
from switchnorm.data.registry import create_dataset, dataset_class, dataset_classes, register
from switchnorm.data.segmentation import Ade20k, CamVid, Cityscapes, Masks, SegmentationDataset
from switchnorm.data.views import Views

if TYPE_CHECKING:
    from switchnorm.data.augment.chain import Augment
    from switchnorm.data.loaders.loader import Loader, TrainingLoader
    from switchnorm.data.loaders.memory_batches import Batches, Samples, TrainingBatches

__all__ = [
    "Ade20k",
    "Augment",
    "Batches",
    "CamVid",
    "Cifar10",
    "Cifar100",
    "Cityscapes",
    "Coco",
    "Dataset",
    "DetectionDataset",
    "Digits",
    "Folder",
    "ImageNet",
    "InMemory",
    "Loader",
    "Masks",
    "Samples",
    "SegmentationDataset",
    "Share",
    "TrainingBatches",
    "TrainingLoader",
    "Views",
    "Voc",
    "Yolo",
    "create_dataset",
    "dataset_class",
    "dataset_classes",
    "register",
]

register("digits", Digits)
register("cifar10", Cifar10)
register("cifar100", Cifar100)
register("imagenet", ImageNet)
register("folder", Folder)
register("ade20k", Ade20k)
register("camvid", CamVid)
register("cityscapes", Cityscapes)
register("masks", Masks)
register("coco", Coco)
register("voc", Voc)
register("yolo", Yolo)

#: What computes, and so imports torch, which the command line need not wait for to know what a dataset's options are.
_LAZY = {
    "Augment": "augment.chain",
    "Batches": "loaders.memory_batches",
    "Loader": "loaders.loader",
    "Samples": "loaders.memory_batches",
    "TrainingBatches": "loaders.memory_batches",
    "TrainingLoader": "loaders.loader",
}


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"switchnorm.data.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'switchnorm.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
