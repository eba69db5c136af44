"""How pictures with objects are prepared for a network: the options, and what becomes of any picture."""

import functools
from abc import abstractmethod
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from switchnorm.data.datasets.any_size import AnySize
from switchnorm.data.datasets.options import (
    LARGEST_SIDE,
    check_between,
    check_choice,
    check_colors,
    check_count,
    check_interpolation,
    check_scale,
    check_sides,
    check_workers,
    colors_of,
    open_options,
)
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.share import Share
from switchnorm.data.views import Views
from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from torch import Tensor

    from switchnorm.data.augment.colors import Colors
    from switchnorm.data.detection.batches import DetectionBatches, TrainingObjects
    from switchnorm.data.detection.listed import Listed
    from switchnorm.data.detection.scene import DetectionScene
    from switchnorm.data.detection.sizes import TrainingSizes
    from switchnorm.data.picture import Picture
    from switchnorm.data.preparation import Preparation
    from switchnorm.models.pictures import Pictures

_FLIPS = ("none", "horizontal", "both")
#: Of which the side of windows is a multiple, as those of all batches are.
_MULTIPLE = 32


@dataclass(frozen=True)
class PreparedPictures(AnySize):
    """The options of every dataset of pictures with objects, and the batches that are made of them.

    A subclass says which pictures there are: `_train`, `_test` and `_pictures`, which raise `InputError` where there
    are none.

    Args:
        root: the dataset's folder.
        split: what is evaluated: val or test.
        short_sides: sides in pixels, of which each training batch draws one: its pictures are resized until their short
            side is that long. [] keeps their sizes, null takes `test_side`.
        longest: the longest side, in pixels, that pictures are resized to; null for no bound.
        scale: large-scale jitter in place of `short_sides`: each training picture is resized until it fits into a
            square of side `crop`, times a factor between these two, as in [0.1, 2.0]; null for none.
        crop: with `scale`, the side of the square, a multiple of 32: a random window of larger pictures; the mean
            colour beside smaller ones.
        flip: whether one half of the training pictures is mirrored: none, horizontal (left and right), or both (and,
            independently, top and bottom).
        color_jitter: how far brightness, contrast and saturation may go from 1 in training; 0.4 is 0.6 to 1.4.
        mosaic: the share of training pictures that become windows of four of them around a point.
        copy_paste: the share of training pictures onto which random objects of another are pasted; masks are needed.
        empty: keep training pictures without objects, or drop them.
        colors: rgb, red, green and blue less ImageNet's mean over its deviation; or published, blue, green and red in
            0..255 less (102.9801, 115.9465, 122.7717), as the published GN detectors and SN's from scratch expect.
        test_side: the short side to which evaluation resizes every picture, in pixels, as far as `longest` allows.
        interpolation: how pictures are resized: nearest, bilinear, bicubic, lanczos, box or hamming; null for bilinear.
        mean: of each channel, for pixels in [0, 1], which is subtracted; null for ImageNet's, of other channels than
            red, green and blue its average over the three.
        std: their deviation, which divides; null for ImageNet's, likewise.
        bands: which bands of the files the network is shown, from 0, as in [0, 1, 4]; null for red, green and blue, to
            which other colours are converted, without alpha.
        range: the numbers that become black and white in pictures with more than 8 bits, as in [0, 4095], and in those
            of 8 bits where it lies in 0..255 and not in 0..1. null finds it in the training pictures, and a run keeps
            it.
        on_damaged: stop at a picture that is missing, cannot be read or is of another size than its boxes are for, or
            skip it: training takes the next picture in its place, with that one's objects, validation leaves it out,
            and both report how many there were.
        workers: processes that read pictures, per process that trains; null takes this machine's cores less one, 0
            reads in the training process.
    """

    root: str
    split: Literal["val", "test"] = "val"
    short_sides: list[int] | None = None
    longest: int | None = 1333
    scale: list[float] | None = None
    crop: int | None = None
    flip: Literal["none", "horizontal", "both"] = "horizontal"
    color_jitter: float = 0.0
    mosaic: float = 0.0
    copy_paste: float = 0.0
    empty: Literal["keep", "drop"] = "keep"
    colors: Literal["rgb", "published"] = "rgb"
    test_side: int = 800
    interpolation: Interpolation | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    bands: list[int] | None = None
    range: list[float] | None = None
    on_damaged: Literal["stop", "skip"] = "stop"
    workers: int | None = None

    def __post_init__(self) -> None:
        check_choice("split", self.split, ("val", "test"))
        check_choice("empty", self.empty, ("keep", "drop"))
        check_choice("colors", self.colors, ("rgb", "published"))
        check_choice("on_damaged", self.on_damaged, ("stop", "skip"))
        if self.flip not in _FLIPS:
            raise unknown("flip", self.flip, _FLIPS)
        check_interpolation(self.interpolation)
        self._check_pixels(self.interpolation)
        check_colors(self.mean, self.std, self.channels)
        if self.colors == "published" and not (self.mean is None and self.std is None):
            raise InputError("colors 'published' has its own mean and deviation; leave mean and std out, or take 'rgb'")
        if self.colors == "published" and self.channels != 3:
            raise InputError(f"colors 'published' are three, and bands {self.bands} are {self.channels}; take 'rgb'")
        for name in ("color_jitter", "mosaic", "copy_paste"):
            check_between(name, getattr(self, name), 0, 1)
        self._check_sizes()
        check_workers(self.workers)

    def _check_sizes(self) -> None:
        if self.longest is not None:
            check_count("longest", self.longest, 1)
        check_count("test_side", self.test_side, 1)
        check_sides("short_sides", self.short_sides or [], self.longest)
        check_sides("test_side", [self.test_side], self.longest)
        check_scale(self.scale)
        if (self.scale is None) != (self.crop is None):
            given, missing = ("scale", "crop") if self.crop is None else ("crop", "scale")
            example = "1024" if missing == "crop" else "[1.0, 1.0]"
            raise InputError(
                f"{given} {getattr(self, given)} needs {missing}, as in {missing} {example}; or set {given} to null"
            )
        if self.crop is not None:
            check_count("crop", self.crop, 1)
            if self.crop % _MULTIPLE:
                nearest = min(max(round(self.crop / _MULTIPLE), 1) * _MULTIPLE, LARGEST_SIDE)
                raise InputError(f"crop {self.crop} must be a multiple of {_MULTIPLE}; the nearest is {nearest}")
        if self.scale is not None and self.short_sides is not None:
            raise InputError(
                f"short_sides {self.short_sides} has no effect with scale {self.scale}; set one of them to null"
            )

    @classmethod
    def options_for(
        cls, pictures: "Pictures", options: Mapping[str, Any], given: Container[str], *, pretrained: bool
    ) -> dict[str, Any]:
        """As of `Dataset`: the colours, unless they are published, and the interpolation."""
        wanted = {} if options.get("colors") == "published" else colors_of(pictures, options)
        return open_options({**wanted, "interpolation": pictures.interpolation}, options)

    @property
    @abstractmethod
    def _train(self) -> "Listed":
        """The training pictures, those without objects among them."""

    @property
    @abstractmethod
    def _test(self) -> "Listed":
        """The test pictures."""

    @functools.cached_property
    def _training(self) -> "Listed":
        """The training pictures that are trained on."""
        listed = self._train
        if self.empty == "keep":
            return listed
        places = listed.counts.nonzero()[:, 0]
        if not len(places):
            raise InputError(f"none of the {len(listed)} training pictures in {listed.source} has objects")
        return listed if len(places) == len(listed) else listed.taken(places)

    @property
    def train_size(self) -> int:
        """Number of training pictures; with `empty` "drop" of those with objects."""
        return len(self._training)

    @property
    def test_size(self) -> int:
        """Number of test pictures."""
        return len(self._test)

    @property
    def _distinct_sizes(self) -> list[tuple[int, int]]:
        return self._training.distinct_sizes

    def scene(self, picture: "Picture") -> "DetectionScene":
        """Any picture as evaluation passes it to the network: number 0, without objects, on the CPU.

        Args:
            picture: as `read_picture` makes it with the dataset's `pixels`, or Pillow's of any mode.
        """
        import torch  # as `Dataset` explains

        from switchnorm.data.detection.scene import DetectionScene
        from switchnorm.data.picture import pixelled, rgb

        (image,), size = self.preparation.prepare(pixelled(rgb(picture)))
        return DetectionScene(0, self._colors()(torch.from_numpy(image)), size, None)

    @property
    def preparation(self) -> "Preparation":
        """As of `Dataset`."""
        from switchnorm.data.augment.colors import normalization_of  # as `Dataset` explains
        from switchnorm.data.preparation import Preparation, ShortSide

        chosen = normalization_of(self.colors, self.mean, self.std, self.channels)
        return Preparation(ShortSide(self.test_side, self.longest), **chosen, **self._read_as())

    def shown(self, picture: "Picture") -> "Tensor":
        """As of `Dataset`: (C, h, w) float32 at the size of evaluation, without padding."""
        return self.scene(picture).picture

    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        steps: int | None = None,
        share: Share = Share(),
    ) -> "TrainingObjects":
        """The loader for training; see `TrainingObjects` and `Dataset`. Nothing depends on `epochs`.

        Raises:
            InputError: as `Dataset`, or `copy_paste` where there are no masks.
        """
        from switchnorm.data.detection.augmentation import Augmentation  # as `Dataset` explains
        from switchnorm.data.detection.batches import TrainingObjects
        from switchnorm.data.detection.training_reader import TrainingReader

        listed = self._training
        if self.copy_paste and listed.masks is None:
            raise InputError(
                f"copy_paste {self.copy_paste:g} needs masks, and {listed.source} has boxes alone, whose corners would "
                "be pasted too; set it to 0, or mix pictures with mosaic"
            )
        augmentation = Augmentation(
            self._training_sizes, self.flip, self._color_jitter, self.mosaic, self.copy_paste, seed
        )
        return TrainingObjects(
            TrainingReader(listed, self._found_pixels, augmentation, self.interpolation or "bilinear"),
            self._colors(share.device),
            batch_size=batch_size,
            steps=steps,
            workers=self.workers,
            share=share,
        )

    def test_batches(
        self,
        *,
        batch_size: int,
        share: Share = Share(),
        views: Views = "centre",
    ) -> "DetectionBatches":
        """The loader for evaluation; see `DetectionBatches` and `Dataset`.

        Raises:
            InputError: as `Dataset`; views besides "centre".
        """
        from switchnorm.data.detection.batches import DetectionBatches  # as `Dataset` explains
        from switchnorm.data.detection.evaluation_reader import EvaluationReader

        if views != "centre":
            raise InputError(f"views {views!r} is not possible here; pictures with objects have 'centre' alone")
        return DetectionBatches(
            EvaluationReader(
                self._test, self._found_pixels, self.test_side, self.longest, self.interpolation or "bilinear"
            ),
            self._colors(share.device),
            batch_size=batch_size,
            workers=self.workers,
            share=share,
        )

    @property
    def _training_sizes(self) -> "TrainingSizes":
        from switchnorm.data.detection.sizes import TrainingSizes  # as `Dataset` explains

        sides = [self.test_side] if self.short_sides is None else self.short_sides
        scale = None if self.scale is None else (self.scale[0], self.scale[1])
        return TrainingSizes(tuple(sides), self.longest, scale, self.crop)

    def _colors(self, device: Any = "cpu") -> "Colors":
        """How pixels are normalized on a device."""
        from switchnorm.data.augment.colors import Colors  # as `Dataset` explains

        return Colors(self.colors, device, mean=self.mean, std=self.std, channels=self.channels)
