"""Confusion matrices of semantic segmentation, and the scores that are computed from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from switchnorm.data.segmentation import IGNORED
from switchnorm.errors import InputError


@dataclass(frozen=True)
class Scores:
    """The scores of a confusion matrix, in float64 on the CPU; exact up to the last division.

    Args:
        matrix: (K, K) int64, pixels by true class (rows) and predicted class (columns).
    """

    matrix: Tensor

    @property
    def pixels(self) -> Tensor:
        """Pixels of each true class, (K,) int64."""
        return self.matrix.sum(1).cpu()

    @property
    def intersection(self) -> Tensor:
        """Pixels of each class that were found, (K,) int64."""
        return self.matrix.diagonal().cpu()

    @property
    def union(self) -> Tensor:
        """Pixels that are of a class, or were taken for it, or both, (K,) int64."""
        return self.pixels + self.matrix.sum(0).cpu() - self.intersection

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class, (K,) in [0, 1]; NaN where the union is empty."""
        return self.intersection.double() / self.union

    @property
    def accuracy(self) -> Tensor:
        """Share of each class's pixels that were found, (K,) in [0, 1]; NaN where it has none."""
        return self.intersection.double() / self.pixels

    @property
    def mean_iou(self) -> float:
        """Mean of the IoU over all K classes, one without a union counting 0, as the ADE20K benchmark has it."""
        return float(self.iou.nan_to_num(0.0).mean())

    @property
    def mean_iou_present(self) -> float:
        """Mean of the IoU over the classes that have a union; NaN where none has."""
        return float(self.iou.nanmean())

    @property
    def pixel_accuracy(self) -> float:
        """Share of all counted pixels whose class was found; NaN of no pixels."""
        return float(self.intersection.sum().double() / self.matrix.sum().cpu())

    @property
    def overall(self) -> float:
        """The ADE20K benchmark's one number: the mean of `mean_iou` and `pixel_accuracy`."""
        return (self.mean_iou + self.pixel_accuracy) / 2


def confusion(predicted: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Count which class was taken for which.

    Args:
        predicted: integers 0..K-1 of any shape.
        truth: integers 0..K-1, or `IGNORED` where nothing counts; of the same shape and device.
        num_classes: K, at most 255.

    Returns:
        (K, K) int64, truth in rows.

    Raises:
        InputError: a true label is neither a class nor `IGNORED`, or what was predicted is no class.
    """
    if predicted.numel():
        for what, values, end in (("prediction", predicted, num_classes), ("label", truth, IGNORED + 1)):
            least, most = (int(each) for each in torch.aminmax(values))
            if least < 0 or most >= end:
                raise _no_class(what, least if least < 0 else most, num_classes)
    rows = IGNORED + 1  # the last holds what is ignored, so that no pixel has to be picked out
    bins = truth.flatten().int() * num_classes + predicted.flatten().int()
    counts = torch.bincount(bins, minlength=rows * num_classes).view(rows, num_classes)
    strange = counts[num_classes:IGNORED].any(1)
    if strange.any():
        raise _no_class("label", num_classes + int(strange.int().argmax()), num_classes)
    return counts[:num_classes]


def _no_class(what: str, found: int, num_classes: int) -> InputError:
    return InputError(f"{what} {found} is no class: of {num_classes}, the last is {num_classes - 1}; {IGNORED} is void")


class ConfusionMatrix(Metric):
    """The confusion matrix of many pictures, over all processes: (K, K) int64, so that sums are exact.

    torchmetrics' own makes a table of pixels by K * K bins where operations must be deterministic: 60 GB for one
    picture of 150 classes.

    Args:
        num_classes: K.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Count a picture, or several; as `confusion` takes them."""
        self.matrix += confusion(predicted, truth, self.num_classes)

    def compute(self) -> Tensor:
        """The matrix, (K, K) int64."""
        return self.matrix
