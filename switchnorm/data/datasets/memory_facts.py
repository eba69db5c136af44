"""What is seen of a sample in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from switchnorm.data.files.picture_facts import digest
from switchnorm.data.files.shown import as_pictures
from switchnorm.data.files.surveyed import Facts, Surveyed

if TYPE_CHECKING:
    from switchnorm.data.loaders.memory_batches import Samples

#: Levels of grey, as scikit-learn's digits have them.
_FEW_LEVELS = 32


def look_at_sample(item: tuple[np.ndarray[Any, Any], int]) -> Facts:
    """What is seen of an image (C, H, W) with its label."""
    image, label = item
    values = image.astype(np.float64).reshape(len(image), -1)
    return Facts(
        digest=digest(image.tobytes()),
        target=label,
        size=(image.shape[1], image.shape[2]),
        pixels=values.shape[1],
        sums=tuple(values.sum(1).tolist()),
        squares=tuple((values**2).sum(1).tolist()),
        counts={label: 1},
    )


class SurveyedSamples(Surveyed):
    """Samples in memory.

    Args:
        name: of the split.
        samples: the images and labels.
    """

    slow: ClassVar[bool] = False

    def __init__(self, name: str, samples: Samples) -> None:
        super().__init__(name)
        self.samples = samples

    @functools.cached_property
    def _range(self) -> tuple[float, float]:
        return self.samples.images.min().item(), self.samples.images.max().item()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def look(self) -> Callable[[Any], Facts]:
        """As `Surveyed`."""
        return look_at_sample

    def item(self, index: int) -> tuple[np.ndarray[Any, Any], int]:
        """As `Surveyed`."""
        return self.samples.images[index].numpy(), int(self.samples.labels[index])

    def picture(self, index: int) -> Image.Image:
        """As `Surveyed`."""
        least, most = self._range
        image = self.samples.images[index].numpy()[None]
        # Beside the extremes of all, which stretch it as they stretch each other.
        return as_pictures(np.concatenate([image, np.full_like(image, least), np.full_like(image, most)]))[0]

    @property
    def scale(self) -> float:
        """255 for photographs of 8 bits; 1 for other levels, as they are."""
        return 255.0 if self._range[1] > _FEW_LEVELS else 1.0

    def label(self, index: int) -> int:
        """As `Surveyed`."""
        return int(self.samples.labels[index])

    def title(self, index: int) -> str:
        """The place of the sample."""
        return f"number {index}"
