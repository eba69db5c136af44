"""Reading training pictures with their objects, and changing both alike: what worker processes do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from switchnorm.data.augment.policy import reproducible_torchvision
from switchnorm.data.augment.resize import resized_fast
from switchnorm.data.augment.sizes import Size, within
from switchnorm.data.detection.augmentation import MOSAIC_PARTS, PASTED_PART, Augmentation, Draw, Part
from switchnorm.data.detection.copy_paste import copy_paste
from switchnorm.data.detection.listed import Listed
from switchnorm.data.detection.mosaic import mosaic, quarters
from switchnorm.data.detection.objects import Objects
from switchnorm.data.detection.placing import Placing
from switchnorm.data.detection.sample import Rectangle, Sample
from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.damage import Damage
from switchnorm.data.loaders.reader import BatchReader
from switchnorm.data.picture import Picture, size_of


class TrainingRequest(NamedTuple):
    """A share of a training batch to be read.

    Args:
        pass_index: the pass over the data.
        place: the batch's place in the pass.
        samples: the places of the pictures.
        canvas: the size of the batch.
    """

    pass_index: int
    place: int
    samples: list[int]
    canvas: Size


class ReadShare(NamedTuple):
    """A share of a training batch as read: of each picture in a list, of objects one after the other.

    Args:
        images: (n, C, H, W) uint8, the pictures in the upper left corner.
        sizes: of the pictures in there.
        filled: what of each is filled by pictures.
        keys: of the random numbers that the network draws for each.
        counts: how many objects each has, and how many regions that are ignored.
        boxes: (K, 4) float32.
        labels: (K,) int64.
        ignored: (M, 4) float32.
        patches: the rectangle of each object's mask; None where the data has no masks.
        masks: the pixels of these, uint8, rectangle by rectangle and row by row.
        damaged: the places of what could not be read, with path and reason.
    """

    images: Tensor
    sizes: list[Size]
    filled: list[list[Rectangle]]
    keys: list[int]
    counts: list[tuple[int, int]]
    boxes: Tensor
    labels: Tensor
    ignored: Tensor
    patches: list[Rectangle] | None
    masks: Tensor
    damaged: dict[int, str]


class Source(NamedTuple):
    """A picture as its file has it, and its objects."""

    picture: Picture
    objects: Objects


@dataclass
class TrainingReader(BatchReader[TrainingRequest, ReadShare]):
    """Reads training batches; (seed, pass, index) alone decide what becomes of a picture.

    The next whole picture takes the place of one that is damaged, where files may be, with its own objects, and becomes
    what the other would have: resized as its own size asks for, and smaller where it would not fit into the batch.

    Args:
        listed: the training pictures.
        pixels: what their files become.
        augmentation: what is done to them.
        interpolation: of resizing.
    """

    listed: Listed
    pixels: Pixels
    augmentation: Augmentation
    interpolation: Interpolation = "bilinear"

    def read(self, request: TrainingRequest) -> ReadShare:
        """The pictures asked for and what is on them."""
        damage = Damage(skip=self.listed.may_miss)
        draws = self.augmentation.draw(request.pass_index, request.samples, len(self.listed))
        with reproducible_torchvision() as set_seed:
            made = _Making(self, request, damage, set_seed)
            samples = [made.sample(draw) for draw in draws]
        return self._batch(request, samples, draws, damage)

    def source(self, index: int) -> Source:
        """A picture and its objects."""
        return Source(self.listed.picture(index, self.pixels), self.listed.objects(index))

    def _batch(self, request: TrainingRequest, samples: list[Sample], draws: list[Draw], damage: Damage) -> ReadShare:
        images = torch.zeros(len(samples), self.pixels.channels, *request.canvas, dtype=torch.uint8)
        for image, sample in zip(images, samples, strict=True):
            height, width = sample.size
            image[:, :height, :width] = sample.pixels
        objects = [sample.objects for sample in samples]
        patches = None if self.listed.masks is None else [mask for each in objects for mask in each.masks or ()]
        return ReadShare(
            images,
            [sample.size for sample in samples],
            [list(sample.filled) for sample in samples],
            [draw.key for draw in draws],
            [(len(each.boxes), len(each.ignored)) for each in objects],
            torch.cat([torch.empty(0, 4), *(each.boxes for each in objects)]),
            torch.cat([torch.empty(0, dtype=torch.int64), *(each.labels for each in objects)]),
            torch.cat([torch.empty(0, 4), *(each.ignored for each in objects)]),
            None if patches is None else [(top, left, *mask.shape) for top, left, mask in patches],
            torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *(mask.ravel() for *_, mask in patches or ())])),
            damage.found,
        )


@dataclass(frozen=True)
class _Making:
    """Makes the pictures of a request.

    Args:
        reader: that was asked.
        request: what it was asked for.
        damage: what it could not read.
        set_seed: seeds torchvision.
    """

    reader: TrainingReader
    request: TrainingRequest
    damage: Damage
    set_seed: Callable[[int], Any]

    def sample(self, draw: Draw) -> Sample:
        """The training picture for which that was drawn."""
        own = draw.parts[0]
        source, size = self._read(own)
        crop = self.reader.augmentation.sizes.crop
        if crop is None:  # a picture that takes the place of another may be too large for the batch
            size = within(size, self.request.canvas)
        if draw.mosaic is None:
            sample = self._placed(own, source, size, size if crop is None else (crop, crop))
        else:
            sample = self._mosaic(draw, (source, size), draw.mosaic)
        return self._pasted(draw.parts[PASTED_PART], sample) if draw.pastes else sample

    def _read(self, part: Part) -> tuple[Source, Size]:
        """The picture of a part, or the next whole one; and the size to give it."""
        reader, request = self.reader, self.request
        listed, augmentation = reader.listed, reader.augmentation
        source, _ = self.damage.next_whole(reader.source, part.sample, len(listed), str(listed.source))
        (size,) = augmentation.sizes.of_batch(
            augmentation.seed,
            request.pass_index,
            request.place,
            torch.tensor([part.index]),
            [size_of(source.picture)],
        )
        return source, size

    def _placed(self, part: Part, source: Source, size: Size, room: Size) -> Sample:
        """A picture at that size, or as much of it as there is room for."""
        height, width = (min(pair) for pair in zip(size, room, strict=True))
        top, left = _place(part.down, size[0] - height), _place(part.right, size[1] - width)
        placing = Placing(
            size_of(source.picture), size, (top, left, height, width), mirrored=part.mirrored, inverted=part.inverted
        )
        pixels = placing.pixels(resized_fast(source.picture, size, self.reader.interpolation))
        if strength := self.reader.augmentation.color_jitter:
            self.set_seed(part.color)
            pixels = v2.ColorJitter(strength, strength, strength)(pixels)
        return Sample(pixels, placing.objects(source.objects), ((0, 0, height, width),))

    def _mosaic(self, draw: Draw, own: tuple[Source, Size], meet: tuple[float, float]) -> Sample:
        """A mosaic as large as the picture itself, or as windows are."""
        crop = self.reader.augmentation.sizes.crop
        whole = own[1] if crop is None else (crop, crop)
        parts = []
        for part, quarter in zip(draw.parts[: len(MOSAIC_PARTS)], quarters(whole, meet), strict=True):
            if quarter[2] and quarter[3]:
                source, size = self._read(part) if part.number else own
                parts.append((quarter, self._placed(part, source, size, quarter[2:])))
        return mosaic(whole, parts)

    def _pasted(self, part: Part, onto: Sample) -> Sample:
        """A picture with objects of that part."""
        other, size = self._read(part)
        source = self._placed(part, other, size, onto.size)
        chosen = self.reader.augmentation.chosen(self.request.pass_index, part, len(source.objects.boxes))
        spare = [whole - shown for whole, shown in zip(onto.size, source.size, strict=True)]
        return copy_paste(onto, source, chosen, (_place(part.down, spare[0]), _place(part.right, spare[1])))


def _place(number: float, spare: int) -> int:
    """One of the places from 0 to `spare`, by a number in [0, 1)."""
    return min(int(number * (spare + 1)), spare)
