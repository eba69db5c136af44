"""Reading pictures with their masks, and changing both alike: what worker processes do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from switchnorm.data.augment.crop_and_flip import flips
from switchnorm.data.augment.policy import reproducible_torchvision
from switchnorm.data.augment.resize import resized_fast
from switchnorm.data.augment.sizes import Size, within
from switchnorm.data.counter import Stream, seeds
from switchnorm.data.files.opening import sides
from switchnorm.data.files.pairs import Pairs
from switchnorm.data.files.picture_file import MisfitError, Pixels, picture_sizes, read_picture
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.damage import Damage
from switchnorm.data.loaders.reader import BatchReader
from switchnorm.data.picture import Picture, pixelled, size_of
from switchnorm.data.preparation.tiling import EvaluationSizes, Resize, at_sizes
from switchnorm.data.segmentation.labels import IGNORED
from switchnorm.data.segmentation.legend import Legend
from switchnorm.data.segmentation.scene import Scene
from switchnorm.data.segmentation.sizes import TrainingSizes


@dataclass
class PairReader:
    """Reads a picture and its labels.

    Args:
        pairs: of the split.
        legend: what the pixels of masks mean.
        pixels: what pictures become.
        known: the label that a run has for each of these labels; None where they are the same.
    """

    pairs: Pairs
    legend: Legend
    pixels: Pixels
    known: tuple[int, ...] | None = None

    def __call__(self, index: int) -> tuple[Picture, Tensor]:
        """The picture and its labels, (H, W) uint8, both the right way up.

        Raises:
            DamagedError: files that cannot be read, or whose sizes are not one another's, or not what the list states.
            InputError: as `Legend.labels`.
        """
        picture, labels = self.picture(index), self.labels(index)
        found, size = size_of(picture), (labels.shape[0], labels.shape[1])
        if found != size and size == picture_sizes(self.pairs.pictures[index]).stored:
            raise MisfitError(
                f"mask {self.pairs.masks[index]} is {sides(size)}, as its picture {self.pairs.pictures[index]} is "
                f"stored before its EXIF data turns it to {sides(found)}; turn the mask too, or take the orientation "
                "out of the picture's EXIF data"
            )
        if found != size:
            raise MisfitError(
                f"mask {self.pairs.masks[index]} is {sides(size)}; expected {sides(found)} as its picture "
                f"{self.pairs.pictures[index]}"
            )
        return picture, labels

    def picture(self, index: int) -> Picture:
        """The picture alone."""
        picture = read_picture(self.pairs.pictures[index], self.pixels)
        if self.pairs.stated is not None and size_of(picture) != tuple(self.pairs.stated[index].tolist()):
            self.pairs.size(index)  # raises where the picture is not stored in the stated size either
        return picture

    def labels(self, index: int) -> Tensor:
        """The labels alone."""
        labels = torch.from_numpy(self.legend.labels(self.pairs.masks[index]))
        return labels if self.known is None else _relabelled(labels, self.known)


def _relabelled(labels: Tensor, known: tuple[int, ...]) -> Tensor:
    """Labels, (H, W) uint8, where `known` has other ones for the classes 0, 1, ...; void stays."""
    table = torch.full((IGNORED + 1,), IGNORED, dtype=torch.uint8)
    table[: len(known)] = torch.tensor(known)
    return table[labels.int()]


class CropRequest(NamedTuple):
    """A share of a training batch to be read.

    Args:
        pass_index: the pass over the data.
        place: the batch's place in the pass.
        samples: the places of the pictures.
        sizes: to which each is resized.
        canvas: the size of the batch.
    """

    pass_index: int
    place: int
    samples: list[int]
    sizes: list[Size]
    canvas: Size


class Crops(NamedTuple):
    """A share of a training batch as read.

    Args:
        images: (n, C, H, W) uint8, the pictures in the upper left corner.
        labels: (n, h, w) uint8, 255 beside the pictures.
        extents: the size of each picture in there.
        damaged: the places of what could not be read, with path and reason.
    """

    images: Tensor
    labels: Tensor
    extents: list[Size]
    damaged: dict[int, str]


@dataclass
class CropReader(BatchReader[CropRequest, Crops]):
    """Reads training batches; (seed, pass, index) alone decide what becomes of a picture.

    The next whole picture takes the place of one that is damaged, where files may be, and becomes what the other would
    have: resized as its own size asks for, and smaller where it would not fit into the batch.

    Args:
        read_pair: of the training split.
        sizes: to which pictures are resized, and the windows that are cut out.
        flip: whether one half of the pictures is mirrored.
        color_jitter: how far brightness, contrast and saturation go from 1.
        label_stride: every how many pixels there is a label.
        seed: of the run.
        interpolation: of resizing.
    """

    read_pair: PairReader
    sizes: TrainingSizes
    flip: bool
    color_jitter: float
    label_stride: int
    seed: int
    interpolation: Interpolation = "bilinear"

    def read(self, request: CropRequest) -> Crops:
        """The pictures asked for and their labels."""
        seed, pass_index, index = self.seed, request.pass_index, torch.tensor(request.samples)
        mirrored = (flips(seed, pass_index, index) & self.flip).tolist()
        windows, colors = (seeds(seed, pass_index, index, stream) for stream in (Stream.WINDOW, Stream.COLOR))
        images = torch.zeros(len(index), self.read_pair.pixels.channels, *request.canvas, dtype=torch.uint8)
        labels = torch.full((len(index), *request.canvas), IGNORED, dtype=torch.uint8)
        extents = []
        damage = Damage(skip=self.read_pair.pairs.may_miss)
        with reproducible_torchvision() as set_seed:
            for place in range(len(index)):
                pair, size = self._pair(request, place, damage)
                picture, mask = _resized(*pair, size, self.interpolation)
                if self.sizes.crop is not None:
                    set_seed(windows[place])
                    window = [min(sides) for sides in zip(self.sizes.crop, size, strict=True)]
                    picture, mask = v2.RandomCrop(window)(picture, mask)
                if mirrored[place]:
                    picture, mask = v2.RandomHorizontalFlip(1.0)(picture, mask)
                if self.color_jitter:
                    set_seed(colors[place])
                    picture, mask = v2.ColorJitter(*[self.color_jitter] * 3)(picture, mask)
                height, width = mask.shape[1:]
                images[place, :, :height, :width] = picture
                labels[place, :height, :width] = mask[0]
                extents.append((height, width))
        first = self.label_stride // 2  # the middle of the pixels for which a label stands
        strided = labels[:, first :: self.label_stride, first :: self.label_stride].contiguous()
        return Crops(images, strided, extents, damage.found)

    def _pair(self, request: CropRequest, place: int, damage: Damage) -> tuple[tuple[Picture, Tensor], Size]:
        """The picture at a place of the request, or the next whole one, with its labels; and the size to give it."""
        sample, pairs = request.samples[place], self.read_pair.pairs
        pair, found = damage.next_whole(self.read_pair, sample, len(pairs), str(pairs.source))
        if found == sample:
            return pair, request.sizes[place]
        own = torch.tensor([size_of(pair[0])])
        (size,) = self.sizes.of_batch(self.seed, request.pass_index, request.place, torch.tensor([sample]), own)
        return pair, size if self.sizes.crop is not None else within(size, request.canvas)


def _resized(
    picture: Picture, labels: Tensor, size: Size, interpolation: Interpolation
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    pixels = resized_fast(picture, size, interpolation)
    # torchvision resizes a Mask by the pixel at the upper left of the nearest one, and so moves it against the picture.
    mask = TF.resize(labels[None], list(size), InterpolationMode.NEAREST_EXACT)
    return tv_tensors.Image(pixels), tv_tensors.Mask(mask)


class SceneRequest(NamedTuple):
    """Test pictures to be read, by their places."""

    samples: list[int]


class Scenes(NamedTuple):
    """Test pictures as read.

    Args:
        scenes: of those that can be read.
        damaged: the places of the others, with path and reason.
    """

    scenes: list[Scene]
    damaged: dict[int, str]


@dataclass
class SceneReader(BatchReader[SceneRequest, Scenes]):
    """Reads test pictures; those of the scenes are (C, h, w) uint8, not yet normalized.

    Args:
        read_pair: of the test split.
        sizes: to which they are resized.
        resize: how, as `make_scene`.
    """

    read_pair: PairReader
    sizes: EvaluationSizes
    resize: Resize

    def read(self, request: SceneRequest) -> Scenes:
        """The scenes asked for; without those that are damaged, where files may be."""
        scenes, damage = [], Damage(skip=self.read_pair.pairs.may_miss)
        for index in request.samples:
            pair = damage.read(self.read_pair, index)
            if pair is not None:
                scenes.append(make_scene(index, *pair, self.sizes(size_of(pair[0])), self.resize))
        return Scenes(scenes, damage.found)


def make_scene(index: int, picture: Picture, target: Tensor | None, sizes: Sequence[Size], resize: Resize) -> Scene:
    """A picture at all its sizes as a `Scene` of pixels, (C, h, w) uint8 each.

    Args:
        index: which test picture it is.
        picture: as it was read.
        target: its labels, (H, W) uint8, if there are any.
        sizes: to which it is resized.
        resize: an interpolation, by Pillow, as training resizes; or "plain", as OpenCV does, see `plain_resize`.
    """
    shown = map(torch.from_numpy, at_sizes(pixelled(picture), sizes, resize))
    return Scene(index, tuple(shown), size_of(picture), target)
