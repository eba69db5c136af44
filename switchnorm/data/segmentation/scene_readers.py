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
from switchnorm.data.files.pairs import Pairs
from switchnorm.data.files.picture_file import DamagedError, read_picture
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.reader import BatchReader
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
        with Image.open(path) as mask:
            mode, numbers = mask.mode, np.array(mask) if mask.mode in _ONE_CHANNEL else None
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
        known: the label that a run has for each of these labels; None where they are the same.
    """

    pairs: Pairs
    numbering: Numbering
    known: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._table = self.numbering.table()

    def __call__(self, index: int) -> tuple[Image.Image, Tensor]:
        """The picture in red, green and blue, and its labels, (H, W) uint8.

        Raises:
            InputError: files that cannot be read, or whose sizes are not one another's, or not what the list states.
        """
        picture, labels = self.picture(index), self.labels(index)
        found, size = (picture.height, picture.width), (labels.shape[0], labels.shape[1])
        if found != size:
            raise InputError(
                f"mask {self.pairs.masks[index]} is {_by(size)}; expected {_by(found)} as its picture "
                f"{self.pairs.pictures[index]}"
            )
        return picture, labels

    def picture(self, index: int) -> Image.Image:
        """The picture alone."""
        try:
            picture = read_picture(self.pairs.pictures[index])
        except DamagedError as error:
            raise InputError(f"cannot read {error}") from error
        if self.pairs.stated is not None:
            height, width = self.pairs.stated[index].tolist()
            if (picture.height, picture.width) != (height, width):
                raise InputError(
                    f"picture {self.pairs.pictures[index]} is {_by((picture.height, picture.width))}; expected "
                    f"{_by((height, width))} as {self.pairs.source} states"
                )
        return picture

    def labels(self, index: int) -> Tensor:
        """The labels alone."""
        labels = read_mask(self.pairs.masks[index], self._table, self.numbering)
        return labels if self.known is None else _relabelled(labels, self.known)


def _relabelled(labels: Tensor, known: tuple[int, ...]) -> Tensor:
    """Labels, (H, W) uint8, where `known` has other ones for the classes 0, 1, ...; void stays."""
    table = torch.full((IGNORED + 1,), IGNORED, dtype=torch.uint8)
    table[: len(known)] = torch.tensor(known)
    return table[labels.int()]


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
        images: (n, 3, H, W) uint8, the pictures in the upper left corner.
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
        images = torch.zeros(len(index), 3, *request.canvas, dtype=torch.uint8)
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
    picture: Image.Image, labels: Tensor, size: Size, interpolation: Interpolation
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    if interpolation == "bilinear":
        pixels = TF.resize(TF.pil_to_tensor(picture), list(size), antialias=True)
    else:  # of which torchvision has all for Pillow's pictures alone
        pixels = TF.pil_to_tensor(TF.resize(picture, list(size), InterpolationMode(interpolation)))
    # torchvision resizes a Mask by the pixel at the upper left of the nearest one, and so moves it against the picture.
    mask = TF.resize(labels[None], list(size), InterpolationMode.NEAREST_EXACT)
    return tv_tensors.Image(pixels), tv_tensors.Mask(mask)


class SceneRequest(NamedTuple):
    """Test pictures to be read, by their places."""

    samples: list[int]


@dataclass
class SceneReader(BatchReader[SceneRequest, "list[Scene]"]):
    """Reads test pictures; those of the scenes are (3, h, w) uint8, not yet normalized.

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


def make_scene(
    index: int, picture: Image.Image, target: Tensor | None, sizes: EvaluationSizes, resize: Resize
) -> Scene:
    """A picture at all its sizes as a `Scene` of pixels, (3, h, w) uint8 each.

    Args:
        index: which test picture it is.
        picture: in red, green and blue.
        target: its labels, (H, W) uint8, if there are any.
        sizes: to which it is resized.
        resize: an interpolation, by Pillow, as training resizes; or "plain", as OpenCV does, see `plain_resize`.
    """
    size = (picture.height, picture.width)
    return Scene(index, tuple(_shown(picture, shown, resize) for shown in sizes(size)), size, target)


def _shown(picture: Image.Image, size: Size, resize: Resize) -> Tensor:
    if resize == "plain":
        return torch.from_numpy(plain_resize(np.asarray(picture), size)).permute(2, 0, 1).contiguous()
    pixels: Tensor = TF.pil_to_tensor(TF.resize(picture, list(size), InterpolationMode(resize)))
    return pixels
