"""Handwritten digits that ship with scikit-learn: nothing to download, and seconds of training on a CPU."""

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from switchnorm.data.datasets.memory import InMemory

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from torch import Tensor

    from switchnorm.data.augment.chain import Augment
    from switchnorm.data.loaders.memory_batches import Samples


@dataclass(frozen=True)
class Digits(InMemory):
    """scikit-learn's 1,797 digits of 8 x 8 pixels in 16 gray levels. Every fifth image belongs to the test set.

    Args:
        augment: move the training images by up to one pixel in each direction.
    """

    augment: bool = False

    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    channels: ClassVar[int] = 1
    size: ClassVar[int] = 8
    white: ClassVar[float] = 16

    def load(self) -> "tuple[Samples, Samples]":
        """The 1,438 training and the 359 test samples, normalized by the training set's mean and deviation."""
        import torch  # as `Dataset` explains
        from sklearn.datasets import load_digits

        from switchnorm.data.loaders.memory_batches import Samples

        digits = load_digits()
        images = torch.from_numpy(digits.images).to(torch.uint8)[:, None]
        labels = torch.from_numpy(digits.target).long()
        test = torch.arange(len(labels)) % 5 == 4
        mean, std = _statistics(images[~test])
        return Samples(images[~test], labels[~test], mean, std), Samples(images[test], labels[test], mean, std)

    def augmentation(self) -> "Augment | None":
        """Shifts only: a mirrored digit is no digit."""
        from switchnorm.data.augment.crop_and_flip import crop_and_flip  # as `Dataset` explains

        return functools.partial(crop_and_flip, padding=1, flip=False) if self.augment else None


def _statistics(images: "Tensor") -> tuple[tuple[float], tuple[float]]:
    """Mean and deviation of 8-bit pixels, out of whole numbers, which add up alike in any number of threads."""
    pixels = images.long()
    count, total, squares = pixels.numel(), int(pixels.sum()), int(pixels.square().sum())
    return (total / count,), (math.sqrt((count * squares - total**2) / (count * (count - 1))),)
