"""Reading pictures with their masks, and changing both alike: what worker processes do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from switchnorm.data.augment.crop_and_flip import flips
from switchnorm.data.augment.policy import reproducible_torchvision
from switchnorm.data.counter import Stream, seeds
from switchnorm.data.files.opening import opened, orientation, turned
from switchnorm.data.files.pairs import Pairs
from switchnorm.data.files.picture_file import DamagedError, Pixels, picture_sizes, read_picture
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.reader import BatchReader
from switchnorm.data.picture import Picture, by, size_of, to_tensor
from switchnorm.data.segmentation.labels import IGNORED, Numbering
from switchnorm.data.segmentation.plain_resize import plain_resize
from switchnorm.data.segmentation.scene import Scene
from switchnorm.data.segmentation.sizes import EvaluationSizes, Size
from switchnorm.errors import InputError

Resize = Interpolation | Literal["plain"]

#: The modes of files with one number per pixel, as Pillow calls them.
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


def read_mask(path: str, table: np.ndarray[Any, Any], numbering: Numbering) -> Tensor:
    """The labels of a mask's pixels, (H, W) uint8.

    Args:
        path: of the mask.
        table: of `numbering`.
        numbering: what the numbers in the file mean.

    Raises:
        InputError: a file that is missing or damaged, one of several channels, or a number that means nothing.
    """
    try:
        with opened(path) as mask:
            mode, numbers = mask.mode, np.array(mask) if mask.mode in _ONE_CHANNEL else None
            numbers = None if numbers is None else turned(numbers, orientation(mask))
    except MemoryError:
        raise
    except Exception as error:  # as `read_picture`
        reason = "it is missing" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise InputError(f"cannot read mask {path} ({reason})") from error
    if numbers is None:
        raise InputError(f"mask {path} is a picture of mode {mode}; expected one number per pixel: {numbering}")
    unsigned = numbers.dtype.itemsize <= 2
    labels = table[numbers.astype(np.uint16) if unsigned else np.where((numbers >> 16) == 0, numbers, -1)]
    if (labels < 0).any():
        row, column = np.argwhere(labels < 0)[0].tolist()
        raise InputError(
            f"mask {path} has {int(numbers[row, column])} in row {row}, column {column}; expected {numbering}"
        )
    return torch.from_numpy(labels.astype(np.uint8))


@dataclass
class PairReader:
    """Reads a picture and its labels.

    Args:
        pairs: of the split.
        numbering: of the masks.
        pixels: what pictures become.
    """

    pairs: Pairs
    numbering: Numbering
    pixels: Pixels

    def __post_init__(self) -> None:
        self._table = self.numbering.table()

    def __call__(self, index: int) -> tuple[Picture, Tensor]:
        """The picture and its labels, (H, W) uint8, both the right way up.

        Raises:
            InputError: files that cannot be read, or whose sizes are not one another's, or not what the list states.
        """
        picture, labels = self.picture(index), self.labels(index)
        found, size = size_of(picture), (labels.shape[0], labels.shape[1])
        if found != size and size == picture_sizes(self.pairs.pictures[index]).stored:
            raise InputError(
                f"mask {self.pairs.masks[index]} is {_by(size)}, as its picture {self.pairs.pictures[index]} is stored "
                f"before its EXIF data turns it to {_by(found)}; turn the mask too, or take the orientation out of the "
                "picture's EXIF data"
            )
        if found != size:
            raise InputError(
                f"mask {self.pairs.masks[index]} is {_by(size)}; expected {_by(found)} as its picture "
                f"{self.pairs.pictures[index]}"
            )
        return picture, labels

    def picture(self, index: int) -> Picture:
        """The picture alone."""
        path = self.pairs.pictures[index]
        try:
            picture = read_picture(path, self.pixels)
        except DamagedError as error:
            raise InputError(f"cannot read {error}") from error
        if self.pairs.stated is not None and size_of(picture) != tuple(self.pairs.stated[index].tolist()):
            self.pairs.size(index)  # raises where the picture is not stored in the stated size either
        return picture

    def labels(self, index: int) -> Tensor:
        """The labels alone."""
        return read_mask(self.pairs.masks[index], self._table, self.numbering)


def _by(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


class CropRequest(NamedTuple):
    """A share of a training batch to be read.

    Args:
        pass_index: the pass over the data.
        samples: the places of the pictures.
        sizes: to which each is resized.
        canvas: the size of the batch.
    """

    pass_index: int
    samples: list[int]
    sizes: list[Size]
    canvas: Size


class Crops(NamedTuple):
    """A share of a training batch as read.

    Args:
        images: (n, C, H, W) uint8, the pictures in the upper left corner.
        labels: (n, h, w) uint8, 255 beside the pictures.
        extents: the size of each picture in there.
    """

    images: Tensor
    labels: Tensor
    extents: list[Size]


@dataclass
class CropReader(BatchReader[CropRequest, Crops]):
    """Reads training batches; (seed, pass, index) alone decide what becomes of a picture.

    Args:
        read_pair: of the training split.
        crop: size of the windows that are cut out; None takes whole pictures.
        flip: whether one half of the pictures is mirrored.
        color_jitter: how far brightness, contrast and saturation go from 1.
        label_stride: every how many pixels there is a label.
        seed: of the run.
        interpolation: of resizing.
    """

    read_pair: PairReader
    crop: Size | None
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
        with reproducible_torchvision() as set_seed:
            for place, (sample, size) in enumerate(zip(request.samples, request.sizes, strict=True)):
                picture, mask = _resized(*self.read_pair(sample), size, self.interpolation)
                if self.crop is not None:
                    set_seed(windows[place])
                    picture, mask = v2.RandomCrop([min(pair) for pair in zip(self.crop, size, strict=True)])(
                        picture, mask
                    )
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
        return Crops(images, labels[:, first :: self.label_stride, first :: self.label_stride].contiguous(), extents)


def _resized(
    picture: Picture, labels: Tensor, size: Size, interpolation: Interpolation
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    if interpolation == "bilinear":
        pixels = TF.resize(to_tensor(picture).contiguous(), list(size), antialias=True)
    else:  # of which torchvision has all for Pillow's pictures alone
        pixels = _resize(picture, size, interpolation)
    # torchvision resizes a Mask by the pixel at the upper left of the nearest one, and so moves it against the picture.
    mask = TF.resize(labels[None], list(size), InterpolationMode.NEAREST_EXACT)
    return tv_tensors.Image(pixels), tv_tensors.Mask(mask)


class SceneRequest(NamedTuple):
    """Test pictures to be read, by their places."""

    samples: list[int]


@dataclass
class SceneReader(BatchReader[SceneRequest, "list[Scene]"]):
    """Reads test pictures; those of the scenes are (C, h, w) uint8, not yet normalized.

    Args:
        read_pair: of the test split.
        sizes: to which they are resized.
        resize: how, as `make_scene`.
    """

    read_pair: PairReader
    sizes: EvaluationSizes
    resize: Resize

    def read(self, request: SceneRequest) -> list[Scene]:
        """The scenes asked for."""
        scenes = []
        for index in request.samples:
            picture, target = self.read_pair(index)
            scenes.append(make_scene(index, picture, target, self.sizes, self.resize))
        return scenes


def make_scene(index: int, picture: Picture, target: Tensor | None, sizes: EvaluationSizes, resize: Resize) -> Scene:
    """A picture at all its sizes as a `Scene` of pixels, (C, h, w) uint8 each.

    Args:
        index: which test picture it is.
        picture: as it was read.
        target: its labels, (H, W) uint8, if there are any.
        sizes: to which it is resized.
        resize: an interpolation, by Pillow, as training resizes; or "plain", as OpenCV does, see `plain_resize`.
    """
    size = size_of(picture)
    return Scene(index, tuple(_shown(picture, shown, resize) for shown in sizes(size)), size, target)


def _shown(picture: Picture, size: Size, resize: Resize) -> Tensor:
    if resize == "plain":
        pixels = np.ascontiguousarray(to_tensor(picture).permute(1, 2, 0).numpy())
        return torch.from_numpy(plain_resize(pixels, size)).permute(2, 0, 1).contiguous()
    return _resize(picture, size, resize)


def _resize(picture: Picture, size: Size, interpolation: Interpolation) -> Tensor:
    channels = 3 if isinstance(picture, Image.Image) else len(picture)
    resized = TF.resize(picture, list(size), by(interpolation, channels))
    return to_tensor(resized).contiguous()
