"""What is drawn for training pictures with objects: functions of (seed, pass, index), and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from switchnorm.data.counter import Stream, integers, seeds, uniform
from switchnorm.data.detection.sizes import TrainingSizes

Flip = Literal["none", "horizontal", "both"]

#: A training picture may be made of several: itself, three more of a mosaic, and one whose objects are pasted.
MOSAIC_PARTS = (0, 1, 2, 3)
PASTED_PART = 4
# Numbers for another part, or for an object of it, are those for another index, beyond all samples.
_PART, _OBJECT = 1 << 40, 1 << 44


@dataclass(frozen=True)
class Part:
    """What is drawn for one of the pictures that make a training picture.

    Args:
        number: which of them.
        index: what its numbers are drawn for.
        sample: its place in the dataset.
        mirrored, inverted: whether left and right, and top and bottom, change places.
        down, right: where in the room for it its window lies, or in it the window: in [0, 1).
        color: the seed of its colours.
    """

    number: int
    index: int
    sample: int
    mirrored: bool
    inverted: bool
    down: float
    right: float
    color: int


@dataclass(frozen=True)
class Draw:
    """What is drawn for a training picture.

    Args:
        parts: the pictures that it may be made of; the first is the one that was asked for.
        mosaic: where four of them meet, down and across, from 1/4 to 3/4 of the sides; None for no mosaic.
        pastes: whether objects of another are pasted.
        key: of the random numbers that the network draws for it, an int64.
    """

    parts: tuple[Part, ...]
    mosaic: tuple[float, float] | None
    pastes: bool
    key: int


@dataclass(frozen=True)
class Augmentation:
    """What training does to pictures with objects.

    Args:
        sizes: to which they are resized, and the windows that are cut out.
        flip: whether one half is mirrored, and in which directions.
        color_jitter: how far brightness, contrast and saturation go from 1.
        mosaic: the share of pictures that become mosaics.
        copy_paste: the share onto which objects of others are pasted.
        seed: of the run.
    """

    sizes: TrainingSizes
    flip: Flip
    color_jitter: float
    mosaic: float
    copy_paste: float
    seed: int

    def draw(self, pass_index: int, samples: list[int], total: int) -> list[Draw]:
        """What is drawn for these samples of a dataset of `total` pictures."""
        if not samples:
            return []
        index = torch.tensor(samples)
        parts = self._parts(pass_index, index, total)
        meet = [uniform(self.seed, pass_index, index, Stream.MOSAIC + number).tolist() for number in (0, 1, 2)]
        pasted = uniform(self.seed, pass_index, index, Stream.COPY_PASTE).tolist()
        keys = seeds(self.seed, pass_index, index, Stream.SAMPLING)
        return [
            Draw(
                parts[place],
                (0.25 + down / 2, 0.25 + right / 2) if drawn < self.mosaic else None,
                pasted[place] < self.copy_paste,
                keys[place],
            )
            for place, (drawn, down, right) in enumerate(zip(*meet, strict=True))
        ]

    def _parts(self, pass_index: int, index: Tensor, total: int) -> list[tuple[Part, ...]]:
        count = PASTED_PART + 1 if self.mosaic or self.copy_paste else 1
        places = (index[:, None] + _PART * torch.arange(count)).flatten()
        partners = integers(self.seed, pass_index, places, Stream.PARTNER, total).view(-1, count)
        partners[:, 0] = index
        down, right, horizontal, vertical = (
            uniform(self.seed, pass_index, places, stream)
            for stream in (Stream.WINDOW_TOP, Stream.WINDOW_LEFT, Stream.FLIP, Stream.FLIP_VERTICAL)
        )
        drawn = zip(
            list(range(count)) * len(index),
            places.tolist(),
            partners.flatten().tolist(),
            ((horizontal < 0.5) & (self.flip != "none")).tolist(),
            ((vertical < 0.5) & (self.flip == "both")).tolist(),
            down.tolist(),
            right.tolist(),
            seeds(self.seed, pass_index, places, Stream.COLOR),
            strict=True,
        )
        parts = [Part(*numbers) for numbers in drawn]
        return [tuple(parts[start : start + count]) for start in range(0, len(parts), count)]

    def chosen(self, pass_index: int, part: Part, count: int) -> list[bool]:
        """Which of a part's objects are pasted: each or not, as likely."""
        places = part.index + _OBJECT * torch.arange(count)
        return (uniform(self.seed, pass_index, places, Stream.PASTED) < 0.5).tolist()
