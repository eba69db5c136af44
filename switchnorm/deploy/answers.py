"""What a network says about a picture. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from PIL import Image

from switchnorm.data.resizing import Array
from switchnorm.deploy.arrays import pasted


@dataclass(frozen=True, eq=False)
class Classified:
    """The classes of a picture, the likeliest first.

    Attributes:
        classes: their names.
        labels: their numbers, (k,) int64.
        probabilities: (k,) float32, which of all classes add up to 1.
    """

    classes: tuple[str, ...]
    labels: Array
    probabilities: Array

    @property
    def best(self) -> str:
        """The name of the likeliest class."""
        return self.classes[0]

    def __str__(self) -> str:
        shown = zip(self.classes, self.probabilities.tolist(), strict=True)
        return ", ".join(f"{name} {100 * share:.1f} %" for name, share in list(shown)[:5])


@dataclass(frozen=True, eq=False)
class Segmented:
    """The class of every pixel of a picture.

    Attributes:
        labels: (H, W) uint8.
        names: of the classes; label 0 is the first.
        colors: (K, 3) uint8, of the classes.
        numbers: of the classes in written masks, and then that of what does not count.
    """

    labels: Array
    names: tuple[str, ...]
    colors: Array
    numbers: tuple[int, ...]

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class has, the largest first; of those that are there."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")
        return {self.names[label]: float(counts[label] / self.labels.size) for label in order if counts[label]}

    def mask(self) -> Image.Image:
        """The labels as a picture, which numbers the classes as the data's own masks do and has their colours."""
        from switchnorm.data.segmentation.labels import Numbering
        from switchnorm.data.segmentation.palette import written_mask

        return written_mask(self.labels, Numbering(self.numbers[:-1], self.numbers[-1:]), self.colors)

    def overlay(self, picture: Image.Image, opacity: float = 0.5) -> Image.Image:
        """The picture under the colours of its labels."""
        from switchnorm.data.segmentation.palette import overlay

        return overlay(picture, self.labels, self.colors, opacity)

    def __str__(self) -> str:
        return ", ".join(f"{name} {100 * share:.1f} %" for name, share in list(self.shares.items())[:5])


@dataclass(frozen=True, eq=False)
class Detected:
    """The objects on a picture, in the network's order, the best first.

    Attributes:
        boxes: (D, 4) float32, x1, y1, x2, y2: edges in pixels of the picture, within it.
        labels: (D,) int64, from 1.
        names: of the objects' classes.
        scores: (D,) float32 in [0, 1].
        masks: of the objects; None where the network predicts none.
        size: height and width of the picture.
        classes: all that there are; label 1 is the first.
        dropped: how many were left out, since a number of theirs is not finite.
    """

    boxes: Array
    labels: Array
    names: tuple[str, ...]
    scores: Array
    masks: Masks | None
    size: tuple[int, int]
    classes: tuple[str, ...]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.boxes)

    def chosen(self, wanted: Array) -> Detected:
        """Those of some places: (k,) integers, or (D,) bool."""
        places = np.arange(len(self))[wanted]
        masks = None if self.masks is None else self.masks.chosen(places)
        names = tuple(self.names[place] for place in places)
        found = self.boxes[places], self.labels[places], names, self.scores[places]
        return Detected(*found, masks, self.size, self.classes, self.dropped)

    def drawn(self, picture: Image.Image, least: float = 0.5) -> Image.Image:
        """The picture with the objects of that score and more."""
        from switchnorm.tasks.detection.painting import class_colors, paint

        best = self.chosen(np.flatnonzero(self.scores >= least))
        best = best.chosen(np.argsort(-best.scores, kind="stable"))
        colors = class_colors(len(self.classes))
        return paint(picture, best.boxes, best.labels, self.classes, colors, best.scores, best.masks)

    def __str__(self) -> str:
        return ", ".join(f"{name} {100 * score:.0f}" for name, score in zip(self.names, self.scores, strict=True))


class Masks(Sequence[Array]):
    """The pixels of objects, made one by one as they are asked for, so that many fit into memory.

    `np.asarray(masks)` has all, (D, H, W) bool.

    Args:
        shares: (D, s, s), the probability of each point of a box to be the object.
        boxes: (D, 4), in pixels of the picture.
        size: its height and width.
    """

    def __init__(self, shares: Array, boxes: Array, size: tuple[int, int]) -> None:
        self.shares = shares
        self.boxes = boxes
        self.size = size

    def __len__(self) -> int:
        return len(self.shares)

    @overload
    def __getitem__(self, place: int) -> Array: ...
    @overload
    def __getitem__(self, place: slice) -> Masks: ...

    def __getitem__(self, place: int | slice) -> Array | Masks:
        """The pixels of an object, (H, W) bool."""
        if isinstance(place, slice):
            return self.chosen(np.arange(len(self))[place])
        return pasted(self.shares[place], self.boxes[place], self.size)

    def __iter__(self) -> Iterator[Array]:
        return (self[place] for place in range(len(self)))

    def chosen(self, places: Array) -> Masks:
        """Those of some objects."""
        return Masks(self.shares[places], self.boxes[places], self.size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        found = np.zeros((len(self), *self.size), bool)
        for place, mask in enumerate(self):
            found[place] = mask
        return found if dtype is None else found.astype(dtype)


Answer = Classified | Segmented | Detected
